"""What attempts took, from the times of their files."""

import os
from dataclasses import replace

import pytest

from aimv2.base.files import write_json
from aimv2.runs.record import Billed, Hours, billed, hours_of


def attempt(run, number, *, seconds, files=(), manifest=True, last="released"):
    """Write an attempt that took so many seconds."""
    folder = run / "attempts" / f"{number:04d}"
    folder.mkdir(parents=True)
    for name in (*files, "heartbeat", last):
        (folder / name).touch()
    (folder / "holder.json").write_text("{}")
    if manifest:
        write_json(folder / "manifest.json", {"hardware": "a machine"})
    for path in folder.iterdir():
        os.utime(path, (1000, 1000))
    os.utime(folder / last, (1000 + seconds, 1000 + seconds))


def test_every_attempt_counts_with_what_became_of_it(tiny, tmp_path):
    attempt(tmp_path, 1, seconds=60, last="heartbeat")  # killed
    attempt(tmp_path, 2, seconds=30, files=["failure.json"], manifest=False)
    attempt(tmp_path, 3, seconds=3600)
    write_json(tmp_path / "result.json", {"attempt": 3})
    found = list(billed(tmp_path, replace(tiny, threads=4)))
    assert [(one.outcome, one.hardware, one.seconds) for one in found] == [
        ("superseded", "a machine", 60),
        ("failed", "a machine", 30),
        ("result", "a machine", 3600),
    ]
    assert [one.hours.core for one in found] == pytest.approx([4 / 60, 4 / 120, 4])
    assert {one.hours.gpu for one in found} == {0}


def test_ranks_on_gpus_are_gpu_hours_and_loader_processes_need_cores(tiny, tmp_path):
    attempt(tmp_path, 1, seconds=1800)
    (one,) = billed(tmp_path, replace(tiny, device="cuda", ranks=8))
    assert one == Billed("superseded", "a machine", 1800, Hours(4, 0))
    assert hours_of(tiny, 3600) == (0, tiny.threads)
    assert hours_of(replace(tiny, threads=2, ranks=2, loader=replace(tiny.loader, num_workers=4)), 1800) == (0, 6)


def test_a_run_without_attempts_costs_nothing(tiny, tmp_path):
    assert not list(billed(tmp_path, tiny))
