import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Convolution gradients differ in the last bits between one and two threads: bit-exact tests fix the number."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def blank_pictures():
    """A page with nothing on it for each picture; `drawn` has the real ones."""
    from pictures import blank, pictures

    with pictures(blank):
        yield


@pytest.fixture(autouse=True, scope="session")
def shared_work():
    """The commands of this process do once what they would do alike."""
    from sharing import shared

    with shared():
        yield


@pytest.fixture(scope="module")
def drawn(blank_pictures):
    """The real pictures, for all tests of a module."""
    from pictures import DRAWN, pictures

    with pictures(DRAWN):
        yield
