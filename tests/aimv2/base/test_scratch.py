"""Arrays in memory and in files without a name."""

import os

import numpy as np
import pytest
import torch

from aimv2.base.scratch import scratch
from tests.helpers.files import files_limited_to


@pytest.mark.parametrize("in_memory", [23, 24])
def test_an_array_holds_what_is_written_wherever_it_is(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = scratch((3, 4), np.float16, in_memory)
    assert isinstance(found, np.memmap) == (in_memory < 24)
    torch.from_numpy(found)[:] = torch.arange(12).view(3, 4)
    assert found.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert (found.shape, found.dtype) == ((3, 4), np.float16)
    assert os.listdir(tmp_path) == [], "the file has no name"


def test_a_file_for_which_there_is_no_room_is_refused_before_it_is_written():
    with files_limited_to(1000), pytest.raises(OSError, match="File too large"):
        scratch((2000,), np.uint8, in_memory=0)
