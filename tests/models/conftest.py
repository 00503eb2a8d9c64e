"""What tests of training share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only wait for each other on more, above all while the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    rows, columns = np.mgrid[0:300, 0:320]
    for number in range(3):
        wave = np.sin((rows + columns * number) / 3) > 0
        Image.fromarray((wave * 200).astype(np.uint8)).save(folder / f"{number}.png")
    return folder
