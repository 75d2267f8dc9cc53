"""Packages with plug-ins, as pip would install them."""

import sys
from importlib import invalidate_caches
from pathlib import Path

from aimv2.base import plugins


def install(folder: Path, monkeypatch, target: str, **sources: str) -> Path:
    """Install a package for the processes that a test starts, and for its own context; return the folder.

    Args:
        target: the entry point's value, the name of a module.
        sources: the text of modules, by their names.
    """
    about = folder / "toy-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{plugins.GROUP}]\ntoy = {target}\n")
    for module, source in sources.items():
        path = folder / f"{module.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    invalidate_caches()
    return folder
