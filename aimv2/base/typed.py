"""Commands as they are typed, in messages that say what to type next.

In a clone the scripts are typed by their paths, and where the package is installed, or was started by its command, they
are commands of ``aimv2``. Committed pages always have the form of the clone.
"""

import os
import sys
from pathlib import Path

FORM = "AIMV2_TYPED"  # environment variable: the form that was typed, for the processes that a command starts
COMMAND, CLONE = "aimv2", "clone"
SCRIPTS = {
    "sweep": "python sweeps/launch.py",
    "manage": "python sweeps/manage.py",
    "report": "python analysis/report.py",
    "scaling": "python analysis/scaling.py",
    "verify": "python -m aimv2.analysis.verify",
}
PACKAGE = Path(__file__).parents[1]


def as_typed(command: str) -> str:
    """Return how a command is typed: ``aimv2 manage``, or ``python sweeps/manage.py`` in a clone."""
    if _form() == COMMAND:
        return f"{COMMAND} {command}".rstrip()
    return SCRIPTS.get(command, f"python -m aimv2 {command}".rstrip())


def keep_form() -> None:
    """Have the processes that this one starts print the same form; they may run from a snapshot of the code."""
    os.environ[FORM] = _form()


def _form() -> str:
    return os.environ.get(FORM) or form_of(Path(sys.argv[0] if sys.argv else ""), PACKAGE)


def form_of(program: Path, package: Path) -> str:
    """Return the form that fits a program and the package that it runs."""
    is_clone = (package.parent / "sweeps" / "launch.py").exists() and (package / "sweeps").is_symlink()
    return CLONE if is_clone and program.stem != COMMAND else COMMAND
