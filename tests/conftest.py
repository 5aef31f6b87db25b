"""Settings that hold for all tests, and which of them `make test` runs."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as the command line has it

import keras
import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest reads -m
def pytest_collection_modifyitems(items):
    """Marks as `full` all cases of a parametrized test but the first, unless it says `all_cases`.

    `make test` then asks each test once, and `make test-all` runs the other cases.
    """
    started = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if any(map(item.get_closest_marker, ("slow", "full", "all_cases"))):
            continue
        if test in started:
            item.add_marker("full")
        started.add(test)


@pytest.fixture(scope="module", autouse=True)
def garbage_of_other_modules():
    """Frees what the tests of another module have left, which `fresh_keras` has frozen."""
    gc.unfreeze()
    gc.collect()


@pytest.fixture(autouse=True)
def fresh_keras():
    """Each test starts with one seed, float32 and no layers of the test before."""
    keras.utils.clear_session()
    # `clear_session` collects garbage, which takes half a second if it looks at all objects of a
    # long run. Those that are alive now are not looked at again before the next module.
    gc.freeze()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
