"""Holders of slots in another process, since a process does not name itself."""

import os
import subprocess
import sys

import pytest

from sweeps.machine.holders import Holder, holders, in_use, slots_folder
from sweeps.machine.slots import core_slots
from tests.helpers.machine import machine

HOLD = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from sweeps.machine.slots import core_slots, gpu_slot
from tests.helpers.machine import machine
here = machine(cores=3, gpus=2)
with core_slots(2, here, "a study in /runs"), gpu_slot(1, here, "a study in /runs"), gpu_slot(2, here, "another"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other():
    """A process that holds two of three cores, one of two GPUs, and a share of the other."""
    command = [sys.executable, "-c", HOLD, os.environ["TMPDIR"]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_holders_are_the_processes_that_hold_slots_now(other):
    study = [Holder(resource, other.pid, "a study in /runs") for resource in ("core", "core", "GPU")]
    held = [*study, Holder("GPU share", other.pid, "another")]
    assert holders() == held
    with core_slots(2, machine(cores=3)) as too_many, core_slots(1, machine(cores=3)) as free:
        assert (too_many, free) == (False, True)
        assert holders() == held, "without this process, and a process that found no slot changes nothing"
    other.kill()
    other.wait()
    assert holders() == []


def test_a_holder_of_an_older_version_is_not_known(other):
    (slots_folder() / "core-0").write_text("")
    assert holders()[0] == Holder("core", 0, "")


def test_nobody_holds_slots_before_the_first_launch():
    assert holders() == []
    assert not slots_folder().exists()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([], ""),
        ([("core", 7, "a in /r")], "1 core by a in /r (process 7)"),
        (
            [("core", 7, "a in /r"), ("core", 7, "a in /r"), ("core", 9, "b in /r"), ("GPU", 7, "a in /r")],
            "2 cores and 1 GPU by a in /r (process 7); 1 core by b in /r (process 9)",
        ),
        ([("core", pid, "a") for pid in range(1, 7)], "6 cores by a (processes 1, 2, 3, 4 and 2 more)"),
        ([("core", 7, "")], "1 core by process 7"),
        ([("core", 0, ""), ("GPU share", 0, "")], "1 core and 1 GPU share by unknown processes"),
    ],
)
def test_in_use_names_resources_work_and_processes(found, text):
    assert in_use(Holder(*one) for one in found) == text
