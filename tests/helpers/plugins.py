"""Executors of other packages, as pip would install them."""

import sys
from importlib import invalidate_caches
from pathlib import Path


def install(folder: Path, name: str, target: str, monkeypatch, **sources: str) -> Path:
    """Install an executor for the length of a test, and for the processes that it starts; return the folder.

    Args:
        name: of its entry point, as in ``executor=<name>``.
        target: the entry point's value, as in ``module:class``.
        sources: the text of modules, by their names.
    """
    about = folder / "toy_executors-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-executors\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[aimv2.executors]\n{name} = {target}\n")
    for module, source in sources.items():
        (folder / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    invalidate_caches()
    return folder
