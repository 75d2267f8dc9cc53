import json
import os
import subprocess
import sys

import numpy as np
import pytest
from aimv2.tools.evaluate.encoding.ranks import ALONE, Ranks, joined
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.pages import ROOT


def test_one_process_is_alone():
    with joined("cpu") as ranks:
        assert ranks == ALONE
        assert ranks.gathered("a") == ["a"]
        assert ranks.of_first("b") == "b"


@given(num_rows=st.integers(0, 1000), size=st.integers(1, 17))
def test_shares_cover_all_rows_once(num_rows, size):
    shares = [Ranks(rank, size).share(num_rows) for rank in range(size)]
    assert np.concatenate([list(share) for share in shares]).tolist() == list(range(num_rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.exhaustive
def test_two_ranks_write_the_features_of_one(digits, public, tmp_path):
    arguments = [f"weights={public[0]}", f"data={digits}", "methods=[linear,knn]", "threads=1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    for name, start in (("one", [sys.executable, "-m"]), ("two", torchrun)):
        command = [*start, "aimv2", "evaluate", *arguments, f"cache_dir={tmp_path / name}", f"to={tmp_path / name}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = (json.loads(next((tmp_path / name).glob("*.json")).read_text()) for name in ("one", "two"))
    assert one["results"] == two["results"]
