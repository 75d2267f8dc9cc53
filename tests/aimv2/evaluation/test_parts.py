"""An evaluation that is interrupted, however often, ends bitwise like one that is not."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.interrupt import Interrupts
from aimv2.definitions.items import Items
from aimv2.evaluation import parts
from aimv2.evaluation.evaluate import evaluate
from aimv2.evaluation.parts import Measured, Parts
from aimv2.run.execute import execute
from aimv2.runs.attempt import ITEMS
from aimv2.runs.record import RunFolder
from aimv2.runs.tensor_file import read_described, write_described

WEIGHTS = {"a": torch.arange(3.0)}
FOUND = {"caption_loss": Measured(Items.of(np.arange(3), np.array([0.1, 0.2, 0.3])), "as a test")}


def always_interrupted():
    interrupts = Interrupts(poll_seconds=0)
    interrupts.also_when(lambda: True)
    return interrupts


@pytest.mark.exhaustive
def test_evaluation_that_is_longer_than_every_job_ends(tiny, tmp_path):
    whole, parted = (RunFolder(tmp_path / name, tiny.name) for name in ("whole", "parted"))
    measured = []

    def counted(*data):
        *data, part, world = data

        def measured_here(names, measure):
            return part(names, lambda missing: measured.extend(missing) or measure(missing))

        return evaluate(*data, measured_here, world)

    assert execute(whole.acquire(tiny), tiny, evaluate=counted) is None
    names = measured.copy()
    assert {"captions", "pixels", "probe_object", "causal_probe_ink", "knn_count", "knn_digits"} <= {*names}
    measured.clear()
    for _ in range(tiny.budget.num_steps + len(names)):
        with pytest.raises(KeyboardInterrupt):
            execute(parted.acquire(tiny), tiny, evaluate=counted, interrupts=always_interrupted())
    assert execute(parted.acquire(tiny), tiny, evaluate=counted) is None

    assert measured == names, "every part once"
    assert parted.result()["metrics"] == whole.result()["metrics"]
    tables = [pd.read_parquet(run.file(ITEMS)) for run in (parted, whole)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert not list(tmp_path.rglob("evaluation")), "parts of a finished run are deleted"
    rests_on = [found["attempt"] for found in parted.result()["attempts"]]
    assert rests_on == list(range(1, parted.num_attempts + 1)), "all trained or measured something"
    assert parted.result()["seconds"] > parted.result()["train_seconds"]


class Attempts:
    """Attempts at one run, each of which asks for a part."""

    def __init__(self, config, folder):
        self.config, self.run = config, RunFolder(folder, config.name)

    def part(self, found=FOUND, weights=WEIGHTS):
        """Return the part, and True if it was measured now."""
        calls = []
        with self.run.acquire(self.config) as attempt:
            part = Parts(attempt, weights, Interrupts())
            return part(["captions"], lambda names: calls.append(names) or [found]), bool(calls)

    def file(self, number):
        return self.run.path / "attempts" / f"{number:04d}" / parts.PARTS / "captions.safetensors"


@pytest.fixture
def attempts(tiny, tmp_path):
    return Attempts(tiny, tmp_path)


def same(one, other):
    assert one.keys() == other.keys()
    for name, measured in one.items():
        assert measured[1:] == other[name][1:]
        for here, there in zip(measured.items, other[name].items, strict=True):
            assert (here.dtype, here.tobytes()) == (there.dtype, there.tobytes())


bits = st.integers(0, 2**32 - 1).map(lambda value: np.uint32(value).view(np.float32))


@given(
    values=st.dictionaries(
        st.text(min_size=1, max_size=5), st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), bits, bits)), max_size=3
    ),
    how=st.text(),
)
def test_part_is_read_as_it_was_saved(tiny, tmp_path_factory, values, how):
    columns = {name: list(zip(*rows, strict=True)) or [(), (), ()] for name, rows in values.items()}
    kinds = (np.int64, np.float32, np.float32)
    found = {
        name: Measured(Items(*(np.array(part, kind) for part, kind in zip(items, kinds, strict=True))), how, how)
        for name, items in columns.items()
    }
    attempts = Attempts(tiny, tmp_path_factory.mktemp("runs"))
    assert attempts.part(found)[1]
    again, is_new = attempts.part({})
    assert not is_new
    same(again, found)


def test_part_of_other_weights_is_measured_again(attempts, capsys):
    assert attempts.part()[1]
    assert attempts.part(weights={"a": torch.tensor([0.0, 1.0, 2.0000002])})[1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{attempts.file(1)} is not used: it was saved with weights=")
    assert not attempts.part()[1], "the first is still there"


def of_another(name, path):
    about, tensors = read_described(path, {})
    write_described(tensors, path, about | {name: "0123456789ab"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        *((partial(of_another, name), f"it was saved with {name}=0123456789ab, ") for name in ("run", "code", "torch")),
        (lambda path: path.write_bytes(b""), ""),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), ""),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), ""),
    ],
)
def test_damaged_part_and_one_of_another_origin_are_measured_again(attempts, capsys, damage, message):
    attempts.part()
    damage(attempts.file(1))
    found, is_new = attempts.part()
    assert is_new
    same(found, FOUND)
    assert capsys.readouterr().err.startswith(f"{attempts.file(1)} is not used: {message}")


def test_part_is_progress_and_has_its_time(attempts):
    with attempts.run.acquire(attempts.config) as attempt:
        part = Parts(attempt, WEIGHTS, Interrupts())

        def measure(names):
            attempt.resume_from([], seconds=1000.0, cpu_seconds=500.0)  # as if it took so long
            return [FOUND]

        part(["captions"], measure)
        assert (attempt.folder / "progress").exists()
    with attempts.run.acquire(attempts.config) as attempt:
        part = Parts(attempt, WEIGHTS, Interrupts())
        part(["captions"], measure)
        assert part.measured_by == {1}
        assert 1000 < attempt.seconds < 2000
        assert 500 < attempt.cpu_seconds < 1000
        assert not (attempt.folder / "progress").exists()
