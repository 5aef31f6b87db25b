"""The version of Keras that the tests run with."""

import keras

KERAS = tuple(int(part) for part in keras.__version__.split(".")[:2])
