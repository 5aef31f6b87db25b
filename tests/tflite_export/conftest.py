"""The trained network of several tests; it is trained once."""

import keras
import pytest

from tests.tflite_export.networks import build, stripes


@pytest.fixture(scope="session")
def trained():
    keras.backend.clear_session()  # its layers are named in tests
    keras.utils.set_random_seed(0)
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.learning_rate = 0.01
    model.fit(*stripes(2000), epochs=6, batch_size=64, verbose=0)
    return model
