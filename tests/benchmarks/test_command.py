"""The command: each benchmark runs and keeps its tables. Nothing here depends on times."""

import subprocess
import sys
from pathlib import Path

import pytest

from aimv2.base.errors import UsageError
from benchmarks.command import BENCHMARKS, benchmarks_command
from benchmarks.results import FILE, PAGE, read_results

STEP = "scale=demo precision=float32 batch=2 repeats=2 threads=1"
exhaustive = pytest.mark.exhaustive
ROOT = Path(__file__).parents[2]


def test_benchmarks_are_listed(capsys):
    assert benchmarks_command([]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_help_has_every_option(capsys, name):
    assert benchmarks_command([name, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: python -m benchmarks {name} [key=value ...]\n")
    assert "\n  json=FILE " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decoder"], "unknown benchmark 'decoder'. Did you mean 'encoder'?"),
        (["encoder", "scale=dem"], "unknown scale 'dem'. Did you mean 'demo'?"),
        (["encoder", "dept=2"], "unknown key 'dept'. Did you mean 'depth'?"),
        (["encoder", "device=tpu"], "device: Input should be 'auto', 'cpu' or 'cuda' (got 'tpu')"),
        (["step", "precision=half"], "precision: Input should be 'float32' or 'bfloat16' (got 'half')"),
        (["step", "json=nowhere/step.json"], "json=nowhere/step.json: there is no such folder"),
        (["data", "folder=/proc/nowhere"], "folder='/proc/nowhere' cannot be written"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(UsageError) as caught:
        benchmarks_command(arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "rows"),
    [
        ("encoder", "scale=demo depth=1 repeats=2 device=cpu threads=1", ["ours", "timm", "transformers", "torch.mm"]),
        ("step", STEP, ["demo"]),
        pytest.param(
            "data",
            "batches=1 batch_size=8 repeats=2 max_workers=1",
            ["photographs"] * 4 + ["scenes"] * 4,
            marks=exhaustive,
        ),
        pytest.param(
            "costs",
            "repeats=2 device=cpu models=[aimv2] patches=[16] batch=2 batch_repeats=2 train_batch=0 depth=1 threads=1",
            ["work/costs/measurements.json"],
            marks=exhaustive,
        ),
        pytest.param("ledger", "runs=[50] workers=[2] steady_seconds=6", [50], marks=exhaustive),
    ],
)
def test_each_benchmark_prints_and_keeps_its_tables(tmp_path, monkeypatch, capsys, name, arguments, rows):
    monkeypatch.chdir(tmp_path)
    Path("work").mkdir()
    place = {"data": ["folder=work"], "costs": ["reports_dir=work"]}.get(name, [])
    assert benchmarks_command([name, *arguments.split(), *place, "json=results.json"]) == 0
    (result,) = read_results(Path("results.json"))
    first, *_ = result.tables
    assert [next(iter(row.values())) for row in first.rows][: len(rows)] == rows
    printed = capsys.readouterr().out
    assert all(f"**{table.title}**" in printed for table in result.tables)
    assert result.machine in printed
    assert name == "costs" or not list(Path("work").iterdir()), "temporary files are deleted"


def test_all_runs_every_benchmark_in_a_new_process(monkeypatch):
    commands = []

    class Done:
        returncode = 0

    monkeypatch.setattr(subprocess, "run", lambda words, check: commands.append(words) or Done())
    assert benchmarks_command(["all", "json=all.json"]) == 0
    assert commands == [[sys.executable, "-m", "benchmarks", name, "json=all.json"] for name in BENCHMARKS]


def test_the_committed_page_is_written_from_the_committed_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(PAGE).parent.mkdir()
    assert benchmarks_command(["page", f"json={ROOT / FILE}"]) == 0
    assert (tmp_path / PAGE).read_text() == (ROOT / PAGE).read_text()
