"""Reports of runs of which some lack a metric that was measured on others after training."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.measured import MeasuredMetric
from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.document.pages import to_markdown
from aimv2.analysis.evidence.records import Records, pack, unpack
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.judgement.lacking import lacking
from aimv2.analysis.sections.study import document
from aimv2.runs.record import RunFolder
from aimv2.spec.items import Items
from aimv2.spec.metrics import Definition, Metric, know
from tests.helpers.documents import text_of
from tests.helpers.evidence import sensitive, write_run

SCALAR = MeasuredMetric(
    name="own_rank", unit="dimensions", lower_is_better=False, plugin="my.py@a", digest="a" * 12, typed="my.py:own_rank"
)
RATIO = replace(SCALAR, name="own_ratio", unit="share", typed="own_ratio")
NUM_ITEMS = 40
COMMAND = "python sweeps/manage.py evaluate prefix_ratio_test metric=my.py:own_rank"


@pytest.fixture(autouse=True, scope="module")
def known():
    """Let the metrics be known, as by the records of launches."""
    for metric in (SCALAR, RATIO):
        know(Definition(metric.name, metric.unit, metric.lower_is_better))


def measure(metric, cell, runs_dir, value, items=None):
    """Write the result of the run that measures a metric of the run of a cell."""
    (alone,) = metric.cells([cell])
    with RunFolder(runs_dir, alone.name).acquire(alone.config) as attempt:
        attempt.publish({metric.name: Metric(value, metric.unit, "40 pairs, by my.py", items=items)})


@pytest.fixture
def measured(cells, runs_dir, tmp_path):
    """Return a copy of the finished runs, all but seed 3 of which have both metrics: 0.2 more than the baseline in the
    causal arm, in every seed and item."""
    folder, rng = shutil.copytree(runs_dir, tmp_path / "runs"), np.random.default_rng(0)
    shared_N = rng.normal(1, 0.1, NUM_ITEMS)
    for cell in cells:
        if cell.seed == 3:
            continue
        more = 0.2 * (cell.arm == "causal") + rng.normal(0, 0.001)
        measure(SCALAR, cell, folder, cell.seed + more)
        items = Items.of(np.arange(NUM_ITEMS), shared_N + rng.normal(0, 0.001, NUM_ITEMS) + more)
        measure(RATIO, cell, folder, items.value, items)
    return folder


def found(request_of, evidence, **study):
    request = replace(request_of, study=replace(request_of.study, **study), metrics=(SCALAR, RATIO))
    return judge(request, evidence, Look(1), sensitive(*request.study.deciding_metrics))


def page_of(report):
    """Return the text of a report with its details."""
    return "\n".join([to_markdown(report), *map(text_of, report.details)])


def test_arms_are_paired_by_seed_over_seeds_or_over_items_too(request_of, cells, measured):
    evidence = load(cells, measured, [SCALAR, RATIO])
    assert evidence.values("own_rank").loc[2, "causal"] == pytest.approx(2.2, abs=0.01)
    differences = found(request_of, evidence).differences
    of_rank = differences.separately("own_rank", "causal", covers_items=True)
    of_ratio = differences.separately("own_ratio", "causal", covers_items=True)
    for estimate, covers in ((of_rank, "seeds"), (of_ratio, "seeds and items")):
        assert (estimate.n, estimate.covers) == (3, covers)
        assert estimate.mean == pytest.approx(0.2, abs=0.01)
    assert UNTRAINED in evidence.values("own_rank")
    assert "null_control" in evidence.values("own_ratio")


@pytest.mark.exhaustive
def test_report_names_what_lacks_the_metric_and_the_command_from_records_too(request_of, cells, measured):
    evidence = load(cells, measured, [SCALAR, RATIO])
    judged = found(request_of, evidence)
    rank, ratio = judged.lacking
    assert rank.text == "8 of 32 finished runs lack own_rank"
    assert rank.seeds_by_arm == {cell.arm: [3] for cell in cells}
    assert rank.command == COMMAND
    assert ratio.command.endswith(" metric=own_ratio"), "a plug-in of an installed package"
    page = page_of(document(judged, {}))
    assert "8 of 32 finished runs lack own\\_rank: uniform on 1..I-1 (seed 3); " in page
    assert f"`{COMMAND}`" in page
    assert "`own_rank`: 40 pairs, by my.py." in page
    again = unpack(pack(Records(judged.request, evidence, Look(1))), STUDIES)
    assert again.request.metrics == (SCALAR, RATIO)
    assert [one.command for one in lacking(again.request, again.evidence)] == [rank.command, ratio.command]
    assert lacking(replace(request_of, metrics=()), evidence) == []


def test_a_primary_metric_that_no_run_has_is_the_reason(request_of, cells, runs_dir):
    judged = found(request_of, load(cells, runs_dir, [SCALAR, RATIO]), primary_metric="own_rank")
    report = document(judged, {})
    assert report.answer == "Nothing is compared yet, as 32 of 32 finished runs lack own_rank."
    page = page_of(report)
    assert "No conclusion: 32 of 32 finished runs lack own\\_rank." in page
    assert "shares two seeds" not in page
    assert f"`{COMMAND}`" in page


def test_a_metric_chosen_after_the_runs_is_said_to_be(request_of, cells, measured):
    evidence = load(cells, measured, [SCALAR, RATIO])
    page = page_of(document(found(request_of, evidence, primary_metric="own_rank"), {}))
    assert "The primary metric is own_rank in dimensions; higher is better." in page
    assert "It was chosen after the runs." in page
    assert "was chosen after the runs. The equivalence margin is" in page
    assert "fixed before the runs" not in page.replace("by expectations that were fixed before the runs", "")


def test_a_metric_of_newer_code_is_measured_into_another_folder(request_of, cells, runs_dir):
    request = replace(request_of, study=replace(request_of.study, primary_metric="reader_loss"))
    (one,) = lacking(request, load(cells, runs_dir))
    assert one.text == "32 of 32 finished runs lack reader_loss"
    assert one.command == "python sweeps/manage.py measure prefix_ratio_test to=runs_again"


def test_a_metric_that_was_never_measured_is_typed_by_its_file_without_its_folder(request_of, cells, runs_dir, plugged):
    plugged("from aimv2.extend import metric\n@metric('share', lower_is_better=True)\ndef spread(model): return 1.0\n")
    request = replace(request_of, study=replace(request_of.study, primary_metric="spread"))
    (one,) = lacking(request, load(cells, runs_dir))
    assert one.command == "python sweeps/manage.py evaluate prefix_ratio_test metric=mine.py:spread"


def test_a_metric_that_cannot_exist_is_not_lacking(request_of, cells, runs_dir):
    request = replace(request_of, study=replace(request_of.study, primary_metric="caption_bits"))
    assert lacking(request, load(cells, runs_dir)) == [], "some arms have it, and to the others it does not apply"


def test_a_run_that_has_the_metric_itself_keeps_it_if_the_plug_in_is_the_same(cells, tmp_path):
    one = replace(cells[0], config=replace(cells[0].config, plugins={"evaluation.metrics.own_rank": SCALAR.plugin}))
    write_run(one, tmp_path, 3.0)
    edited = replace(SCALAR, plugin="my.py@b", digest="b" * 12)
    for metric, value in ((SCALAR, 1.0), (edited, 2.0)):
        measure(metric, one, tmp_path, value)
        assert load([one], tmp_path, [metric]).values("own_rank").loc[0, one.arm] == value
