"""Probes of a launch: done once by the executor's workers, then priced, limited and billed in money."""

import json
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import pytest
from pydantic.dataclasses import dataclass
from rich.console import Console

from aimv2.base.errors import UsageError
from aimv2.run.pricing.probe import ProbeClock, probe_of
from aimv2.runs.record import RunFolder
from aimv2.sweeps import launch
from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.executors.local import LocalExecutor
from aimv2.sweeps.executors.slurm import SlurmExecutor
from aimv2.sweeps.parse import parse
from aimv2.sweeps.probe import probe
from aimv2.sweeps.worker import worker_about
from tests.helpers.programs import skip_without

RATES = "rates:\n  cpu core: 36 EUR/h\n"
ARMS = "sweep.arms=[uniform]"


@pytest.fixture
def rates(tmp_path):
    (tmp_path / "rates.yaml").write_text(RATES)
    return f"rates={tmp_path / 'rates.yaml'}"


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Executor):
    """Workers whose speed this machine does not know; they are in this process."""

    partition: str = "main"
    workers: int = 2

    def num_workers(self, runs):
        return self.workers

    @contextmanager
    def starting(self, launched):
        def start(name):
            worker_about(launched.about(name, runs_per_gpu=None)).work()
            return lambda: 0

        yield start


@pytest.mark.exhaustive
def test_a_launch_probes_prices_limits_and_bills(here, rates, tmp_path):
    status, out, err = here("dry_run=true", "probe=true", rates, ARMS, "sweep.seeds=1")
    assert (status, err) == (0, "")
    assert "1 probe of 8 steps and a part of the evaluation each" in out
    assert "measured on " in out
    assert "core-hours, " in out
    assert " EUR" in out
    assert not list((tmp_path / "runs").glob("v2-*")), "a dry run does nothing else"
    status, out, err = here("probe=true", rates, ARMS, "sweep.seeds=1", "limit=0.0001EUR")
    assert status == 2
    assert "times limit=0.0001EUR; nothing was started" in err
    assert "1 probe" not in out, "it was done"
    status, out, err = here("probe=true", rates, ARMS, "sweep.seeds=1", "limit=10000EUR")
    assert status == 0, err
    page = (tmp_path / "reports" / "prefix_ratio" / "report.md").read_text()
    bill = page.partition("| attempts | number | hours | GPU-hours | core-hours | money |")[2].partition("\n\n")[0]
    rows = {cells[1]: cells[2:-1] for line in bill.splitlines() if len(cells := re.split(r" *\| *", line)) > 2}
    number, _, gpu_hours, core_hours, money = rows["all"]
    assert (number, gpu_hours, rows["failed"][0]) == ("2", "0", "0")
    assert float(money.removesuffix(" EUR")) == pytest.approx(36 * float(core_hours), rel=0.05)


@pytest.fixture
def base(words_of, cache_dir):
    return parse([*words_of(cache_dir, ARMS, "sweep.seeds=1")]).request.baseline


@pytest.mark.exhaustive
def test_workers_elsewhere_are_probed_where_they_run(base, tmp_path):
    executor, console = Elsewhere(), Console(quiet=True)
    clock = ProbeClock(tmp_path / "probes" / executor.place)
    assert clock(base) is None
    probe(clock, [base, base], executor, console)
    assert clock(base).training > 0
    runs = list(clock.folder.glob("v2-*"))
    assert [RunFolder(clock.folder, path.name).num_attempts for path in runs] == [1]
    probe(clock, [base], executor, console)
    assert [RunFolder(clock.folder, path.name).num_attempts for path in runs] == [1], "each is done once"
    assert json.loads((runs[0] / "config.json").read_text())["budget"]["samples"] == probe_of(base).budget.samples


def test_a_place_is_where_workers_run_and_not_how_many():
    assert Elsewhere(workers=5).place == Elsewhere().place != Elsewhere(partition="other").place
    assert LocalExecutor(workers=2, minutes=3).place == LocalExecutor().place
    assert SlurmExecutor(minutes=9).place == SlurmExecutor().place != SlurmExecutor(gres="gpu:1").place


def test_probes_find_a_gap_in_the_queue():
    assert SlurmExecutor().for_probes().minutes == 15
    short = SlurmExecutor(minutes=2, signal_seconds=30)
    assert short.for_probes() == short
    assert Elsewhere().for_probes() == Elsewhere()


def test_probes_that_fail_say_where_their_logs_are(base, tmp_path):
    broken = replace(base, data=replace(base.data, tokenizer=str(tmp_path / "none.json")))
    with pytest.raises(UsageError):
        probe(ProbeClock(tmp_path / "probes"), [broken], Elsewhere(), Console(quiet=True))


def test_a_launch_on_another_machine_says_that_a_probe_measures_it(words_of, cache_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # without sbatch
    assert launch.main(words_of(cache_dir, ARMS, "sweep.seeds=1", "executor=slurm", "dry_run=true")) == 0
    assert "the time is not known: " in (shown := " ".join(capsys.readouterr().out.split()))
    assert "; probe=true measures it there" in shown


@pytest.mark.exhaustive
def test_a_probe_on_ray_is_a_task_of_ray(started, tmp_path, monkeypatch):
    skip_without(find_spec("ray"), "no package ray")
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a path that is short enough for its sockets
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    process = started(ARMS, "sweep.seeds=1", "executor=ray", "executor.address=local", "dry_run=true", "probe=true")
    output = " ".join(process.communicate()[0].split())
    shutil.rmtree(folder, ignore_errors=True)
    assert process.returncode == 0, output
    assert "1 probe of 8 steps" in output
    assert "core-hours" in output
