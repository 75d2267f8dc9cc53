"""The display of a plan and its price."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.recorded_runs import FILE
from aimv2.ablations.request import Request
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from aimv2.definitions.programs import flops_per_sample
from aimv2.request.resolve import with_attention
from aimv2.run.price import RunSeconds
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.plan_display import PlannedSweep, PlannedTogether, report_note


class Workers:
    """Two workers at most."""

    speed_unknown = ""

    def num_workers(self, runs):
        return 2


def clock(run):
    """Every run trains 200 images per second, and its evaluation takes 20 s."""
    return RunSeconds(run.budget.samples / 200, 20.0)


def test_a_report_of_other_runs_is_named_before_it_is_replaced(tmp_path, tiny):
    study = STUDIES["decoder_sharing"]

    def request_of(samples, seeds):
        cells = expand(study, replaced(tiny, {"budget.samples": samples}), seeds=seeds)
        return Request(study=study, cells=cells, arguments=())

    request, other = (request_of(samples, [0, 1]) for samples in (16, 32))
    assert report_note(request, tmp_path) == ""
    (folder := tmp_path / request.folder).mkdir()
    rows = [{"arm": cell.arm, "seed": cell.seed, "run": cell.name} for cell in request.cells]
    pq.write_table(pa.Table.from_pylist(rows), folder / FILE)
    assert report_note(request, tmp_path) == ""
    more = request_of(16, [1, 2])
    assert report_note(more, tmp_path) == "", "more seeds of the same runs"
    assert report_note(other, tmp_path).startswith(f"{folder} is the report of runs with other values")
    (folder / FILE).write_bytes(b"arm\n")
    assert report_note(other, tmp_path) == "", "nothing is known of it"


@pytest.mark.parametrize("equal", ["samples", "flops"])
def test_arm_is_marked_where_it_differs_in_what_the_study_holds_equal(tmp_path, tiny, equal):
    """Half the samples of a network are 0.50 times the baseline by each of the three. The ratio of seconds is that of
    training, though the time shown includes evaluation."""
    study = replace(STUDIES["scaling"], equal="samples")
    arms = ["size_100_samples_100", "size_100_samples_050"]
    base = replaced(tiny, {"budget.samples": 10_240})
    cells = expand(study, base, arms=arms, seeds=[0])
    console = Console(record=True, width=160)
    plan = Plan("scaling", cells, tmp_path)
    PlannedSweep(replace(study, equal=equal), plan, only=[]).show(console, Workers(), clock)
    lines = {line.split()[0]: line for line in console.export_text().splitlines() if " MB" not in line and "e+" in line}
    column = {"samples": "5,120", "flops": f"{5120 * flops_per_sample(base):.2e}", "seconds": "46 s"}[equal]
    assert f"{column}, 0.50 x" in lines["size_100_samples_050"]
    assert [arm for arm, line in lines.items() if " x " in line] == ["size_100_samples_050"]
    assert lines["size_100_samples_050"].count("0.50 x") == 1


def test_flops_are_not_marked_at_equal_samples_and_a_deviating_level_is_noted(tmp_path):
    study = STUDIES["decoder_depth"]
    cells = expand(study, with_attention(demo()), seeds=[0])
    console = Console(record=True, width=160)
    PlannedSweep(study, Plan("decoder_depth", cells, tmp_path), only=[]).show(console, Workers(), clock)
    shown = console.export_text()
    assert "depth_067: model.decoder.depth=1 (2/3 as deep; here depth 1 for 2, 0.5 x)" in shown
    assert not [line for line in shown.splitlines() if "e+12" in line and " x" in line]


@pytest.mark.parametrize(
    ("time", "reason", "shown"),
    [
        (RunSeconds(90.0, 30.0), "", "; 2.0 min on 2 workers, as long as the longest run"),
        (None, "", "; 2 workers; the time is not known: dry_run=true price=true or limit= measures it"),
        (None, "nodes differ", "; 2 workers; the time is not known: nodes differ"),
    ],
)
def test_price_says_how_long_the_workers_take(tmp_path, time, reason, shown):
    study, workers = STUDIES["eos"], Workers()
    workers.speed_unknown = reason
    cells = expand(study, with_attention(demo()), seeds=[0])[:2]
    plan = Plan("eos", cells, tmp_path)
    console = Console(record=True, width=160)
    PlannedSweep(study, plan).show(console, workers, lambda run: time)
    assert shown in console.export_text().replace("\n", " ")


def test_a_run_that_both_studies_need_is_priced_and_done_once(tmp_path):
    study, ladder, base = STUDIES["eos"], STUDIES["sensitivity"], with_attention(demo())
    cells = expand(study, base, seeds=[0])
    more = expand(ladder, base, arms=["base", "samples_200"], seeds=[0])
    planned = PlannedTogether(
        PlannedSweep(ladder, Plan("sensitivity", more, tmp_path)), PlannedSweep(study, Plan("eos", cells, tmp_path))
    )
    names = {cell.name for cell in (*cells, *more)}
    assert sorted(planned.work.runs) == sorted(names), "each once"
    num_shared = len(cells) + len(more) - len(names)
    assert num_shared == 4, "baseline, controls and the untrained encoder"
    console = Console(record=True, width=300)
    planned.show(console, Workers(), lambda run: None)
    shown = console.export_text()
    assert shown.index("samples_200: ") < shown.index("eos: ") < shown.index("together: ")
    assert shown.count("price: ") == 3
    assert f"together: {len(names)} runs to do, 4 of them for both; price: at most " in shown
