"""Pages of the documentation: their fenced blocks, and the commands in them."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from aimv2.config.arguments import SCRIPTS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [
    README,
    *(ROOT / name for name in ("CONTRIBUTING.md", "reports/README.md", "reports/published/index.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
NEW_FILE = re.compile(r"^`([\w/.-]+)`:\n\n```\w+\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SHELL = ("", "bash", "sh")  # a block without a language holds commands
PROGRAMS = ("python", ".venv/bin/python", "torchrun", "make", "aimv2")
INSTALLERS = ("pip",)  # not run here, but by tests/test_wheel.py


def blocks(page: Path, languages: Sequence[str]) -> list[str]:
    """Return the fenced blocks in these languages."""
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


def lines(page: Path) -> list[str]:
    """Return the lines of a page's blocks of commands, each with its continuations."""
    text = "\n".join(blocks(page, SHELL)).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def commands(page: Path) -> list[list[str]]:
    """Return the words of each command of a page that runs this project, without comments."""
    return [in_clone(shlex.split(line, comments=True)) for line in lines(page) if line.split()[0] in PROGRAMS]


def in_clone(words: list[str]) -> list[str]:
    """Return the words of a command of ``aimv2`` as they are typed in a clone; others as they are."""
    if words[0] != "aimv2":
        return words
    words = words[: words.index("|")] if "|" in words else words
    if words[1] in SCRIPTS:
        return [*SCRIPTS[words[1]].split(), *words[2:]]
    return ["python", "-m", *words]


def cheap(words: list[str]) -> list[str]:
    """Return the words of a command that makes the same checks and plans in a second.

    A launch becomes a dry run for a cluster, which measures no speed. A training becomes its cost, which checks the
    same values. All other arguments stay, but for limits and probes, which depend on the machine.
    """
    if "train" in words:
        start = words.index("train")
        overrides = [word for word in words[start + 1 :] if not word.startswith(("runs_dir=", "limit=", "executor"))]
        return ["python", *words[words.index("-m") : start], "cost", *overrides]
    if "sweeps/launch.py" in words and "--help" not in words:
        kept = [
            word
            for word in words
            if not word.startswith(("limit=", "dry_run=", "probe=", "executor=local", "executor=debug"))
        ]
        cluster = [] if any(word.startswith("executor=") for word in kept) else ["executor=slurm"]
        return [*kept, "dry_run=true", *cluster]
    return words
