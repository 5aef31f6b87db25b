"""Settings that hold for all tests."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as the command line has it

import keras
import pytest


@pytest.fixture(scope="session", autouse=True)
def imports_are_no_garbage():
    """Spares each `clear_session`, which collects garbage, a walk over all that was imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_keras():
    """Each test starts with one seed, float32 and no layers of the test before."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
