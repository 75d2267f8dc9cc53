"""docs/extend.md, followed in an empty folder: its files are written there and its commands typed, at tiny sizes.

What it adds to a clone is added to a copy of the source.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aimv2.base.files import read_json
from tests.helpers.pages import NEW_FILE, ROOT, blocks, cheap, lines
from tests.helpers.sweeps import SMALL

PAGE = ROOT / "docs" / "extend.md"
START = "\n## In a clone\n"
SMALLER = {"seeds=5": "seeds=3"}
RUN = [word for word in SMALL if not word.startswith("sweep.")]


def commands():
    """Return the words of each command of the page, without the first, which is there twice."""
    return [shlex.split(line)[1:] for line in lines(PAGE)[1:] if line.startswith("aimv2 ")]


def only(*parts):
    """Return the one command of the page that has all of these words and begins with the first."""
    (words,) = [words for words in commands() if words[0] == parts[0] and set(parts) <= set(words)]
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files of the page, in which commands of the page are typed."""
    folder = tmp_path_factory.mktemp("extend")
    for name, text in NEW_FILE.findall(PAGE.read_text().split(START)[0]):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def entered(folder, cache_dir, succeeds):
    """A function that runs a command of the page there, and returns its output."""

    def run(words, *more):
        program, *rest = words
        sizes = {"sweep": [*SMALL, "sweep.seeds=2"], "train": RUN}.get(program, [])
        cache = [f"data.cache_dir={cache_dir}"] if sizes else []
        typed = [program, *(SMALLER.get(word, word) for word in rest)]
        return succeeds([*typed, *sizes, *cache, *more], folder)

    return run


@pytest.fixture(scope="module")
def swept(entered, folder):
    """The folder after the sweep of the page."""
    (words,) = [words for words in commands() if words[0] == "sweep" and words[2:] == ["sweep=curriculum"]]
    assert "8 runs done" in entered(words)
    return folder


@pytest.mark.exhaustive
def test_a_plan_is_printed(entered):
    plan = entered(only("sweep", "sweep=curriculum", "dry_run=true"))
    assert "prefix.law=ramp prefix.parameters.start=0.0 prefix.parameters.end=1.0" in plan
    assert "training FLOPs" in plan


@pytest.mark.exhaustive
def test_the_curriculum_is_swept_and_reported_by_the_metric(swept, entered):
    report = (swept / "reports/curriculum/report.md").read_text()
    assert "Should the longest prefix grow while a run trains?" in report
    assert "effective_rank" in report
    assert "Command: `python sweeps/launch.py 'plugins=[curriculum.py,rank.py]' sweep=curriculum" in report
    configs = {path.parent.name: read_json(path) for path in swept.glob("runs/v2-*/config.json")}
    assert len(configs) == 8
    for name, config in configs.items():
        result = read_json(swept / "runs" / name / "result.json")
        assert 1 < result["metrics"]["effective_rank"]["value"] <= 32
        assert result["metrics"]["effective_rank"]["unit"] == "dimensions"
        owners = {path: one.partition("@")[0] for path, one in config["plugins"].items()}
        law = {"prefix.law": "curriculum.py"} if config["prefix"]["law"] == "ramp" else {}
        assert owners == {"evaluation.metrics.effective_rank": "rank.py"} | law
    assert "8 done" in entered(only("manage", "status"))


@pytest.mark.exhaustive
def test_later_commands_find_the_plugins_and_waiting_runs_do_not_see_an_edit(swept, entered):
    """The files are gone: what they were is in the snapshot."""
    for name in ("curriculum.py", "rank.py"):
        (swept / name).rename(swept / f"{name}.gone")
    try:
        assert "12 runs" in entered(only("manage", "extend", "curriculum"))
        assert Path(entered(only("report", "curriculum")).strip()) == Path("reports/curriculum/report.md")
    finally:
        for name in ("curriculum.py", "rank.py"):
            (swept / f"{name}.gone").rename(swept / name)


@pytest.mark.exhaustive
def test_one_run_is_trained_with_each(entered):
    assert "effective_rank" in entered(only("train", "prefix.law=ramp"))
    assert "caption_loss" in entered(only("train", "objective.name=smoothed_caption"))


@pytest.mark.exhaustive
def test_in_a_clone_a_new_study_is_planned_as_it_is_written(tmp_path, cache_dir):
    for package in ("aimv2", "ablations", "sweeps", "analysis"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, symlinks=True, ignore=ignored)
    for path, text in NEW_FILE.findall(PAGE.read_text().split(START)[1]):
        (tmp_path / path).write_text(text)
    for change in blocks(PAGE, ["diff"]):
        applied = subprocess.run(["git", "apply", "-C1"], cwd=tmp_path, input=change, capture_output=True, text=True)
        assert applied.returncode == 0, f"{applied.stderr}\n{change}"
    (line,) = [line for line in lines(PAGE) if "sweep=flip" in line and "sweep.seeds=1" in line]
    _, *arguments = cheap(shlex.split(line))
    without_sbatch = {"PATH": str(Path(sys.executable).parent)}
    variables = os.environ | without_sbatch | {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    command = [sys.executable, *arguments, f"data.cache_dir={cache_dir}"]
    plan = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    assert all(text in plan.stdout for text in ("augment.flip_probability=0", "half", "never", "640")), plan.stdout


def test_every_command_of_the_page_is_tested():
    tested = {"sweep=curriculum", "status", "curriculum", "prefix.law=ramp", "objective.name=smoothed_caption"}
    assert all(set(words) & tested for words in commands())
    first, second = lines(PAGE)[0], only("sweep", "sweep=curriculum", "dry_run=true")
    assert shlex.split(first)[1:] == second[:-1]
