"""Two launches against one of all their seeds."""

from dataclasses import replace

import pandas as pd
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.request import Request
from aimv2.analysis.evidence.joined import joined
from aimv2.analysis.evidence.load import load
from aimv2.analysis.evidence.records import TABLES, Records, pack, unpack
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.compare import mixed_code
from aimv2.config.paths import replaced
from tests.helpers.evidence import write_run
from tests.helpers.specimen import STUDY


@pytest.fixture
def records_of(request_of, runs_dir):
    """A function that returns the records of a launch of some cells."""

    def of(cells, runs_dir=runs_dir):
        request = replace(request_of, cells=list(cells))
        return unpack(pack(Records(request, load(request.cells, runs_dir), Look(1))), STUDIES)

    return of


def with_seeds(cells, *seeds):
    return [cell for cell in cells if cell.seed in seeds]


def names(records):
    return sorted(cell.name for cell in records.request.cells)


def test_two_launches_of_other_seeds_are_one_study(records_of, cells):
    found = joined(records_of(with_seeds(cells, 0, 1)), records_of(with_seeds(cells, 2, 3)))
    whole = records_of(cells)
    assert found.look == Look(2, ((0, 1),))
    assert names(found) == names(whole)
    for name in ("runs", *TABLES):
        tables = (getattr(one.evidence, name).sort_values(["arm", "seed"], kind="stable") for one in (found, whole))
        first, second = (table.reset_index(drop=True) for table in tables)
        pd.testing.assert_frame_equal(first, second[first.columns], check_dtype=False)
    assert names(unpack(pack(found), STUDIES)) == names(found)


def test_a_run_of_both_launches_counts_once(records_of, cells):
    again = [cell for cell in cells if cell.arm in ("uniform", "null_control")]
    found = joined(records_of(cells), records_of(again))
    assert len(found.evidence.runs) == len(found.request.cells) == len(set(names(found)))


def test_an_arm_that_was_defined_otherwise_does_not_count(records_of, cells, tiny, tmp_path):
    base = with_seeds(cells, 0, 1)
    other = [
        replace(cell, config=replaced(cell.config, {"optimizer.peak_lr": 1e-5})) if cell.arm == "causal" else cell
        for cell in with_seeds(cells, 2, 3)
    ]
    for cell in other:
        write_run(cell, tmp_path, 3.0)
    found = joined(records_of(base), records_of(other, tmp_path))
    seeds = {arm: set(table["seed"]) for arm, table in found.evidence.runs.groupby("arm")}
    assert (seeds["causal"], seeds["uniform"]) == ({2, 3}, {0, 1, 2, 3})


def test_an_untrained_encoder_keeps_its_runs_under_another_name(tiny, tmp_path):
    """It is named by the first arm of its launch that has it."""
    study, base = STUDIES["scaling"], replaced(tiny, {"budget.samples": 64})
    baseline, half, whole = study.baseline, "size_200_samples_050", "size_200_samples_100"
    launches = []
    for arms, seed in (((baseline, half, whole), 0), ((baseline, whole), 1)):
        cells = expand(study, base, arms=arms, seeds=[seed])
        for cell in cells:
            write_run(cell, tmp_path, 3.0)
        request = Request(study=study, cells=cells, arguments=())
        launches.append(unpack(pack(Records(request, load(cells, tmp_path), Look(1))), STUDIES))
    runs = joined(*launches).evidence.runs
    untrained = runs[runs["arm"].str.startswith("untrained_")]
    assert sorted(zip(untrained["arm"], untrained["seed"], strict=True)) == [
        (f"untrained_{whole}", 0),
        (f"untrained_{whole}", 1),
    ]


@pytest.mark.parametrize(("codes", "is_mixed"), [(["a", "a", "b", "b"], False), (["a", "b", "b", "a"], True)])
def test_other_code_mixes_only_within_a_seed(records_of, cells, tmp_path, codes, is_mixed):
    """In the second case the baseline's run of a seed has other code than the rest of the seed."""
    for cell in cells:
        own = codes[cell.seed] if not is_mixed or cell.arm != STUDY.baseline else "c"
        write_run(cell, tmp_path, 3.0, code=own * 12)
    earlier, later = (records_of(with_seeds(cells, *seeds), tmp_path) for seeds in ((0, 1), (2, 3)))
    found = joined(earlier, later)
    assert bool(mixed_code(found.request.study, found.evidence)) == is_mixed
