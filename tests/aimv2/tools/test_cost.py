"""The plan that ``python -m aimv2 cost`` prints."""

import subprocess
import sys

import pytest

from aimv2.cli import main

PLAN = ("cost", "scale=vit_l_2b", "ranks=1,8,64", "gpu=80GB")


@pytest.fixture
def cost(capsys):
    """Call the command; return the exit status, and its table as cells by the title of their row."""

    def call(*arguments):
        status = main(list(arguments))
        lines = capsys.readouterr().out.splitlines()
        rows = [[cell for cell in line.split("  ") if cell.strip()] for line in lines if line.strip()]
        return status, {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}

    return call


def test_a_run_is_planned_for_each_number_of_ranks(cost):
    status, rows = cost(*PLAN)
    assert (status, rows["ranks"]) == (0, ["1", "8", "64"])
    sizes, steps = (
        [int(cell) for cell in rows[title]] for title in ("images of a micro-batch", "micro-batches of a step")
    )
    assert [size * number for size, number in zip(sizes, steps, strict=True)] == [8192, 1024, 128]
    assert rows["fits"] == ["yes"] * 3
    totals = [float(cell.split()[0]) for cell in rows["memory of a rank"]]
    kinds = ("weights", "gradients", "moments", "copies", "activations", "batch", "process")
    for column, total in enumerate(totals):
        assert sum(float(rows[kind][column].split()[0]) for kind in kinds) == pytest.approx(total, abs=0.04)
        assert total <= 72
    assert [cell.split()[1] for cell in rows["memory of the evaluation"]] == ["GB"] * 3
    assert float(rows["memory of the evaluation"][0].split()[0]) < 10
    assert float(rows["temporary files"][0].split()[0]) == pytest.approx(13.3, abs=0.1)
    assert "hours" not in rows


def test_hours_follow_from_the_rate_that_is_stated(cost):
    """Oracle: FLOPs of a run divided by the rate."""
    _, rows = cost(*PLAN, "rate=400", "activation_checkpointing=false")
    hours = 2_048_000_000 * 836.5e9 / 400e12 / 3600
    found = [float(cell.replace(",", "")) for cell in rows["hours"]]
    assert found == pytest.approx([hours, hours / 8, hours / 64], rel=0.01)
    assert float(rows["GPU-hours"][0].replace(",", "")) == pytest.approx(hours, rel=0.01)
    _, twice = cost(*PLAN, "rate=400", "activation_checkpointing=true")
    assert float(twice["hours"][0].replace(",", "")) == pytest.approx(hours * 4 / 3, rel=0.02)


def test_a_run_that_does_not_fit_is_planned_too_and_without_a_gpu_this_machines_memory_is_used(cost):
    status, rows = cost("cost", "scale=vit_3b", "ranks=2", "gpu=4GB")
    assert (status, rows["fits"], rows["images of a micro-batch"]) == (0, ["no"], ["1"])
    status, rows = cost("cost", "device=cpu")
    assert (status, rows["fits"], rows["micro-batches of a step"]) == (0, ["yes"], ["1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpu=80"], "gpu=80: write the memory of a GPU as a number with one of MB, GB, GiB, like 80GB"),
        (["gpu=0GB"], "gpu=0GB: write the memory"),
        (["gpu=80XB"], "gpu=80XB: write the memory"),
        (["gpu=80GB", "device=cpu"], "gpu= is the memory of a GPU, but the run has device=cpu"),
        (["ranks=0"], "ranks.0: Input should be greater than 0"),
        (["ranks=two"], "ranks.0: Input should be a valid integer"),
        (["ranks=3"], "budget.batch_size=16 is not divisible by ranks=3"),
        (["rate=fast"], "rate: Input should be a valid number"),
        (["rate=-1"], "rate: Input should be greater than 0"),
        (["ranks=1", "ranks=2"], "ranks= is given twice"),
        (["gpu="], "gpu= has no value"),
    ],
)
def test_bad_input_gets_one_sentence(arguments, message, capsys):
    assert main(["cost", *arguments]) == 2
    refused = capsys.readouterr().err
    assert message in refused
    assert refused.count("\n") == 1


def test_a_plan_for_gpus_loads_no_torch():
    check = f"import sys; from aimv2.cli import main; main({list(PLAN)!r}); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True).stdout
    assert shown.endswith("False\n")
