"""The logs of a run, as they are printed."""

import contextlib

from rich.console import Console

from aimv2.runs.record import RunFolder
from aimv2.sweeps.search.trials import SearchFolder
from aimv2.sweeps.status.logs import print_logs
from tests.helpers.trials import begin, do, search


def printed(runs_dir, task):
    console = Console(record=True, width=200)
    print_logs(RunFolder(runs_dir, task.name), console)
    return console.export_text()


def interrupted(runs_dir, task, samples):
    """Let an attempt end after so many samples, as after a signal or by a pruner."""
    with contextlib.suppress(KeyboardInterrupt), begin(runs_dir, task) as attempt:
        attempt.write_rows([{"step": 1, "samples": samples, "train_flops": 1, "seconds": 1.0}])
        attempt.mark_progress()  # it saves a checkpoint
        raise KeyboardInterrupt


def endings(text):
    return [line.partition(", process ")[2].partition(", ")[2] for line in text.splitlines() if "attempt 0" in line]


def test_each_attempt_says_how_it_ended(tiny, tmp_path):
    task = SearchFolder(search(tiny), tmp_path).ask()
    interrupted(tmp_path, task, samples=4)
    assert f"{task.name}: not done" in printed(tmp_path, task)
    do(tmp_path, task, content_loss=1.0)
    text = printed(tmp_path, task)
    assert endings(text) == ["interrupted", "finished"]
    assert f"{task.name}: done" in text


def test_the_last_rows_are_a_table_with_a_line_for_each_value(tiny, tmp_path):
    """They were printed as JSON."""
    task = SearchFolder(search(tiny), tmp_path).ask()
    with begin(tmp_path, task) as attempt:
        rows = [{"step": n, "samples": 1000 * n, "text_loss": 3.14159 / (n + 1)} for n in range(7)]
        attempt.write_rows([*rows, {"step": 7, "samples": 7000, "text_loss": 1e-7, "held_out_caption_loss": 2.5}])
    shown = [line.split() for line in printed(tmp_path, task).splitlines()]
    assert ["step", "3", "4", "5", "6", "7"] in shown
    assert ["samples", "3,000", "4,000", "5,000", "6,000", "7,000"] in shown
    assert ["text_loss", "0.7854", "0.6283", "0.5236", "0.4488", "1e-07"] in shown
    assert ["held_out_caption_loss", "2.5"] in shown
