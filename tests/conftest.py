import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Convolution gradients differ in the last bits between one and two threads: bit-exact tests fix the number."""
    torch.set_num_threads(1)
