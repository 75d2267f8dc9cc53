"""What a plan shows of its arms."""

from dataclasses import replace

import pytest
from rich.console import Console

from ablations.catalogue import STUDIES
from aimv2.config.resolve import with_attention
from aimv2.config.scales import demo
from sweeps.executors.local import LocalExecutor
from sweeps.plan import Plan
from sweeps.pricing.price import RunSeconds
from sweeps.status.board import print_plan


def clock(run):
    """As if every run trained 200 images a second, and its evaluation took 20 s."""
    return RunSeconds(run.budget.samples / 200, 20.0)


@pytest.mark.parametrize("equal", ["samples", "flops", "seconds"])
def test_an_arm_is_marked_where_it_is_not_equal_in_what_the_study_holds_equal(tmp_path, equal):
    """Half the samples of a network: by whichever of the three, 0.50 times the baseline; its evaluation does not count,
    which the shown time has in it."""
    study = replace(STUDIES["scaling"], equal="samples")
    arms = ["size_100_samples_100", "size_100_samples_050"]
    cells = study.cells(with_attention(demo()), arms=arms, seeds=[0])
    console = Console(record=True, width=160)
    plan = Plan("scaling", cells, tmp_path)
    print_plan(console, replace(study, equal=equal), plan, LocalExecutor(cluster="debug"), [], clock)
    lines = {line.split()[0]: line for line in console.export_text().splitlines() if "  none " in line or "all" in line}
    column = {"samples": "10,240", "flops": "1.15e+12", "seconds": "71 s"}[equal]
    assert f"{column}, 0.50 x" in lines["size_100_samples_050"]
    assert [arm for arm, line in lines.items() if " x " in line] == ["size_100_samples_050"]
    assert lines["size_100_samples_050"].count("0.50 x") == 1


def test_more_flops_at_equal_samples_are_no_mark_and_a_level_that_is_not_as_meant_is_said(tmp_path):
    study = STUDIES["decoder_depth"]
    cells = study.cells(with_attention(demo()), seeds=[0])
    console = Console(record=True, width=160)
    print_plan(console, study, Plan("decoder_depth", cells, tmp_path), LocalExecutor(cluster="debug"), [], clock)
    shown = console.export_text()
    assert "depth_067: model.decoder.depth=1 (2/3 as deep; here depth 1 for 2, 0.5 x)" in shown
    assert not [line for line in shown.splitlines() if "e+12" in line and " x" in line]
