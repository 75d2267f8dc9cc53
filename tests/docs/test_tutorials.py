"""docs/tutorials/, followed command by command in an empty folder, by the code of the wheel.

Trainings and launches are real ones of tiny models, by ``executor=debug`` where the page has ``local``. SLURM's
commands are scripts that accept everything; tests/slurm/test_tutorial.py has a real SLURM. Of the check of a claim only
the plan is made, because its runs take minutes.
"""

import re
import shlex

import pytest

from tests.helpers.pages import NEW_FILE, ROOT, lines
from tests.helpers.slurm import on_path
from tests.helpers.sweeps import SMALL

CLAIM, DATA, CLUSTER = (
    ROOT / "docs" / "tutorials" / f"{name}.md" for name in ("check-a-claim", "own-data", "own-cluster")
)
TINY_RUN = [word for word in SMALL if not word.startswith("sweep.")]
TINY_SWEEP = ["executor=debug", "sweep.arms=[uniform,causal]", "sweep.seeds=1", "sweep.controls=[]"]
LEFT_OUT = ("price=true", "limit=1h", "sensitivity=auto")  # of this machine, or of minutes


def steps(page):
    """Return the words of each command of a page, without comments."""
    return [shlex.split(line, comments=True) for line in lines(page) if line.startswith(("aimv2 ", "python "))]


def key(word):
    return word.partition("=")[0]


def tiny(words, cache_dir):
    """Return the words of a command that does the same in seconds: those of the page, and others that it lacks."""
    program = words[0]
    if program in ("sweep", "train", "cost") and "scale=tiny" not in words:
        is_executed = program == "sweep" and "executor=slurm" not in words  # which only accepts it
        more = [*TINY_RUN, *(TINY_SWEEP if is_executed else [])]
        given = {key(word) for word in words} - {"budget.samples"}
        added = [word for word in more if key(word) not in given]
        words = [word for word in words if key(word) not in map(key, added)] + added
    if program == "report" and any(word in LEFT_OUT for word in words) and "dry_run=true" not in words:
        words = [*words, "dry_run=true"]
    if words[1] == "cancel":
        words = [*words, "yes=true"]  # nobody answers
    prepares = program in ("sweep", "train", "cost") or "dry_run=true" in words
    return [word for word in words if word not in LEFT_OUT] + [f"data.cache_dir={cache_dir}"] * prepares


@pytest.fixture
def typed(tmp_path, cache_dir, by_wheel):
    """A function that runs a command of a page in an empty folder, and returns its exit status and output."""

    def run(words):
        program, *arguments = words
        own = ["-m", "aimv2", *tiny(arguments, cache_dir)] if program == "aimv2" else arguments
        return by_wheel(own, tmp_path)

    return run


def followed(typed, commands):
    """Run commands, which must succeed; return their output."""
    outputs = []
    for words in commands:
        status, output = typed(words)
        assert status == 0, f"{shlex.join(words)}\n{output}"
        outputs.append(output)
    return "".join(outputs)


@pytest.mark.exhaustive
def test_a_claim_is_listed_judged_and_planned(typed):
    page = " ".join(CLAIM.read_text().split())
    for words in steps(CLAIM):
        status, output = typed(words)
        assert status == (0 if "--list" in words else 3), output  # undecided, or not run
        if "--from-records" in words:
            shown = re.search(r"^(prefix-beats-causal is .*\nBy .*\n)", CLAIM.read_text(), flags=re.MULTILINE)[1]
            assert shown in output, "the output on the page is that of the command"
            assert "minus causal_content_loss: +0.521 [+0.360, +0.682] (" in output
            assert "minus causal_content_loss: +0.521 [+0.360, +0.682] (" in page
        if "seeds=10" in words:
            assert "12 runs, 12 to do" in output
            assert "executes 12 runs" in page


@pytest.mark.exhaustive
def test_own_data_from_an_empty_folder_to_a_report(typed, tmp_path):
    for name, text in NEW_FILE.findall(DATA.read_text()):
        (tmp_path / name).write_text(text)
    commands = steps(DATA)
    assert "312 of 1,797 samples are held out" in followed(typed, commands[commands.index(["python", "digits.py"]) :])
    assert (tmp_path / "sheet.png").exists()
    report = tmp_path / "reports" / "prefix_ratio_digits" / "report.md"
    assert report.with_suffix(".html").exists()
    assert "sensitivity=auto" in report.read_text(), "without it, the report says what is missing"


@pytest.mark.exhaustive
def test_own_cluster_from_one_run_to_cancelled_jobs(typed, tmp_path, monkeypatch):
    slurm = on_path(monkeypatch, tmp_path / "slurm")
    commands = steps(CLUSTER)
    output = followed(typed, commands[commands.index(["aimv2", "cost", "scale=demo"]) :])
    assert output.count("submitted: 8 workers as array") == 2, "a launch, and its extension"
    assert (tmp_path / "reports" / "prefix_ratio" / "report.html").exists(), "of the runs without SLURM"
    assert len(list(slurm.scripts.iterdir())) == 4, "two arrays, each with its finalizer job"
