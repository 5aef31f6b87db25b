"""Images for the tests of whole runs."""

import pytest

from tests.training import tiny_net
from tests.training.runs import write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture(scope="module")
def tiny():
    """Makes the network of `tiny_net` known in this process too."""
    with tiny_net.registered():
        yield "tinynet"
