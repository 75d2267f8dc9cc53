import os
from dataclasses import replace

import pandas as pd
import pytest

from aimv2.analysis.evidence.run_files import _curve, _curves, _items, load
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, write_json
from aimv2.runs.failure import Failure
from aimv2.runs.record import RunFolder
from tests.helpers.evidence import write_run


def test_results_name_the_code_and_the_hardware_of_all_attempts(cells, tmp_path):
    old, new = cells[:2]
    write_run(old, tmp_path, 3.0)
    attempts = [{"attempt": number, "hardware": name} for number, name in enumerate(("H100", "A100", "H100"), 1)]
    write_run(new, tmp_path, 3.0, code="0123456789ab", attempts=attempts)
    evidence = load([old, new, replace(new, arm="the same run")], tmp_path)
    assert evidence.results["hardware"].tolist() == ["a test", "H100; A100", "H100; A100"]
    assert evidence.results["code"].tolist() == ["", "0123456789ab", "0123456789ab"]
    assert evidence.codes == {"not recorded": 1, "0123456789ab": 1}, "a run that two cells share is one run"


def test_run_that_measures_the_weights_of_another_has_the_code_and_versions_of_both(cells, tmp_path):
    old, new = cells[:2]
    write_run(old, tmp_path, 3.0, code="cccccccccccc")
    write_run(new, tmp_path, 3.0, code="aaaaaaaaaaaa+cccccccccccc")
    path = RunFolder(tmp_path, new.name).file("manifest.json")
    manifest = read_json(path)
    write_json(path, manifest | {"trained": {"run": "v2-0", "commit": "before", "versions": {"torch": "2"}}})
    evidence = load([old, new], tmp_path)
    assert evidence.results["commit"].tolist() == ["abc", "before; abc"]
    assert evidence.results["torch"].tolist() == ["2", "2"]
    assert len(evidence.codes) == 2, "runs that one code trained and measured are of other code"


def test_failed_runs_are_told_from_unfinished_ones(cells, tmp_path):
    some = [cell for cell in cells if cell.arm == "causal"]
    with RunFolder(tmp_path, some[0].name).acquire(some[0].config) as attempt:
        attempt.fail(Failure("not finite", "text_loss is nan at step 7"), "")
    write_run(some[1], tmp_path, 3.0)
    evidence = load(some, tmp_path)
    assert evidence.missing["has_failed"].tolist() == [True, False, False]
    assert (evidence.num_failed("causal"), evidence.num_runs("causal")) == (1, 4)
    assert evidence.num_failed("uniform") == 0
    assert evidence.missing["reason"].tolist()[1:] == ["not run yet"] * 2
    (path := tmp_path / some[2].name).write_text("in the way")
    assert load(some, tmp_path).missing["reason"].tolist()[1].startswith(f"{path} is no folder that can be written")


def test_curves_have_the_steps_with_held_out_values(evidence, cells):
    trained = [cell for cell in cells if cell.config.budget.samples]
    curves = evidence.curves
    assert list(curves) == ["arm", "seed", "step", "samples", "train_flops", "seconds", "held_out_caption_loss"]
    assert list(curves[["arm", "seed"]].drop_duplicates().itertuples(index=False, name=None)) == [
        (cell.arm, cell.seed) for cell in trained
    ]
    own = curves[(curves["arm"] == trained[0].arm) & (curves["seed"] == trained[0].seed)]
    assert own["step"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["metrics.parquet", "items.parquet", "manifest.json", "../../result.json"])
def test_a_run_with_a_broken_file_has_failed_and_the_others_are_read(cells, tmp_path, name):
    for cell in cells[:2]:
        write_run(cell, tmp_path, 1.0, items=[("content_loss", 7, 2.0, 1.0)])
    path = (RunFolder(tmp_path, cells[0].name).file("") / name).resolve()
    assert path.is_file()
    path.write_text("broken")
    evidence = load(cells[:2], tmp_path)
    assert evidence.runs["run"].tolist() == [cells[1].name]
    assert evidence.items.num_items("content_loss").to_dict() == {(cells[1].arm, cells[1].seed): 1}
    (missing,) = evidence.missing.to_dict("records")
    assert (missing["run"], missing["has_failed"]) == (cells[0].name, True)
    assert str(path) in missing["reason"]


def test_bill_has_every_attempt_once(cells, tmp_path):
    first, second = cells[:2]
    with RunFolder(tmp_path, first.name).acquire(first.config) as attempt:
        attempt.fail(Failure("node", "it broke"), "")
    write_run(first, tmp_path, 3.0)
    shared = replace(second, config=first.config)  # a run of two cells
    for hours, name in enumerate(("0001", "0002"), 1):
        folder = tmp_path / first.name / "attempts" / name
        for path in folder.iterdir():
            os.utime(path, (0, 0))
        os.utime(folder / "released", (3600 * hours, 3600 * hours))
    bill = load([first, shared], tmp_path).bill.set_index("outcome")
    assert bill["attempts"].to_dict() == {"failed": 1, "result": 1}
    assert bill["core_hours"].to_dict() == {"failed": 1.0, "result": 2.0}
    assert set(bill["hardware"]) == {"a test"}
    assert bill["seconds"].sum() == 3 * 3600
    assert load(cells[2:4], tmp_path).bill.empty


def write(path, **columns):
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_curves_of_runs_with_other_columns_are_one_table_in_the_order_of_runs(tmp_path):
    """Also of a run without rows, and of a column without values, whose columns have no type."""

    def curve(name, values, **held_out):
        numbers = list(range(len(values)))
        steps = dict.fromkeys(("step", "samples", "train_flops", "seconds"), numbers)
        return _curve(write(tmp_path / name, **steps, loss=values, **held_out))

    last = curve("1", [1.0, 2.0, 3.0], held_out_loss=[4.0, None, 2.0], held_out_never=[None] * 3)
    first = curve("2", [1.0, 2.0], held_out_bits=[None, 8.0])
    none = _curve(write(tmp_path / "3", step=[], samples=[]))
    curves = _curves({("z", 0): first, ("untrained", 0): none, ("a", 7): last})
    assert "loss" not in curves
    expected = [("z", 0, 1, None, 8.0), ("a", 7, 0, 4.0, None), ("a", 7, 2, 2.0, None)]
    found = curves[["arm", "seed", "step", "held_out_loss", "held_out_bits"]].astype(object)
    assert list(found.where(found.notna(), None).itertuples(index=False, name=None)) == expected
    assert _curves({}).empty
    assert _curves({("untrained", 0): none}).empty


def test_parts_of_an_item_are_summed_and_broken_files_named(tmp_path):
    rows = {"metric": ["loss", "loss", "loss", "other"], "item": [9, 7, 9, 7]}
    path = write(tmp_path / "1", **rows, total=[1.0, 2.0, 1.0, 5.0], weight=[2.0, 1.0, 1.0, 1.0])
    parts = _items({("a", 0): path, ("b", 0): path}, "loss")
    assert list(parts) == [("a", 0), ("b", 0)]
    # A ratio of 4 / 4: 2 - 1 x 1 and 2 - 1 x 3, over a mean weight of 2.
    assert parts["a", 0].to_dict() == {7: 0.5, 9: -0.5}
    assert _items({("a", 0): path}, "accuracy") == _items({}, "loss") == {}
    (broken := tmp_path / "2").write_text("broken")
    for bad in (broken, write(tmp_path / "3", nothing=[1])):
        with pytest.raises(UsageError, match=f"{bad} cannot be read; delete the run's folder"):
            _items({("a", 0): path, ("a", 1): bad}, "loss")
