"""The layout of the repository: where files lie, what tests may touch, and names of classes."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("aimv2", "ablations", "sweeps", "analysis", "benchmarks")
STUDIES = Path("ablations/studies")  # all tested by tests/ablations/test_studies.py
PATCHES = ("monkeypatch.setattr", "monkeypatch.delattr", "monkeypatch.setitem", "mock.patch", "patch.object")

SLURM = re.compile("slurm|sbatch|squeue|scancel|scontrol|sinfo", re.IGNORECASE)
SOURCES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))


@cache
def tree_of(source: str) -> ast.Module:
    return ast.parse(source)


def has_mirror(source: Path) -> bool:
    """True if the file needs no test file of its own, or has one."""
    if source.name in ("__init__.py", "__main__.py") or source.parent == STUDIES:
        return True
    if not any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree_of((ROOT / source).read_text()))):
        return True  # nothing but definitions of data
    return (ROOT / "tests" / source.with_name(f"test_{source.name}")).exists()


def imports(source: str) -> list[tuple[str, str]]:
    """Return every imported module or attribute by its full name, with the name that it is bound to."""
    bound = []
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Import):
            bound += [(alias.name, alias.asname or alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            bound += [(f"{module}.{alias.name}", alias.asname or alias.name) for alias in node.names]
    return bound


def imported_test_files(source: str) -> list[str]:
    """Return the imports of, or from, a test file."""
    return [name for name, _ in imports(source) if any(part.startswith("test_") for part in name.split(".")[:-1])]


def patched(source: str) -> list[str]:
    """Return the targets in our packages that monkeypatch or unittest.mock replaces."""
    if "patch" not in source:
        return []
    ours = {bound for name, bound in imports(source) if name.split(".")[0] in PACKAGES}
    found = []
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith(PATCHES):
            target = node.args[0]
            name = target.value if isinstance(target, ast.Constant) else ast.unparse(target)
            root = str(name).split(".")[0]
            if root in (PACKAGES if isinstance(target, ast.Constant) else ours):
                found.append(f"line {node.lineno}: {name}")
    return found


def test_every_source_file_has_a_test_file_at_the_same_place():
    assert SOURCES
    missing = [str(path) for path in SOURCES if not has_mirror(path)]
    assert not missing, "\n".join(missing)


def names_of_slurm(source: str) -> list[str]:
    """Return the imports, names and strings of a file that name SLURM or a command of it; docstrings may."""
    if not SLURM.search(source):
        return []
    tree, found = tree_of(source), []
    with_docstring = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node.body[0] for node in ast.walk(tree) if isinstance(node, with_docstring) and node.body]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        parts = [value for value in vars(node).values() if isinstance(value, str)]
        found += [part for part in parts if SLURM.search(part) and id(node) not in docstrings]
    return found


def test_only_executors_know_slurm():
    sources = [path for path in SOURCES if not path.is_relative_to("sweeps/executors")]
    found = {str(path): names for path in sources if (names := names_of_slurm((ROOT / path).read_text()))}
    assert found == {"sweeps/active_launches.py": ["slurm"]}, "the executor of records that name none"


@pytest.mark.parametrize("found_in", [imported_test_files, patched])
def test_no_test_file_imports_another_or_patches_our_own_code(found_in):
    found = [f"{path}: {name}" for path in TESTS for name in found_in((ROOT / path).read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("found_in", "source", "count"),
    [
        (imported_test_files, "from tests.sweeps.test_launch import launched", 1),
        (imported_test_files, "from .test_launch import launched", 1),
        (imported_test_files, "from tests.helpers.sweeps import SMALL, test_size", 0),
        (patched, "monkeypatch.setattr('aimv2.cost.price', 1)", 1),
        (patched, "from aimv2.sweeps import freeze\nmonkeypatch.setattr(freeze, 'SOURCE', 1)", 1),
        (patched, "from aimv2.runs.record import RunFolder as Folder\nmonkeypatch.delattr(Folder, 'acquire')", 1),
        (patched, "import aimv2.cost\nmonkeypatch.setattr(aimv2.cost, 'price', 1)", 1),
        (patched, "from unittest import mock\nmock.patch('aimv2.analysis.evidence.run_files.load')", 1),
        (patched, "import os\nmonkeypatch.setattr(os, 'link', None)", 0),
        (patched, "from aimv2.sweeps.freeze import freeze\nmonkeypatch.setenv('A', 'b')", 0),
        (patched, "monkeypatch.setattr('shutil.disk_usage', None)", 0),
    ],
)
def test_imports_of_test_files_and_patches_of_our_code_are_found(found_in, source, count):
    assert len(found_in(source)) == count


@pytest.mark.parametrize("package", PACKAGES)
def test_no_class_name_is_defined_twice_in_a_package(package):
    trees = [tree_of(path.read_text()) for path in (ROOT / package).rglob("*.py")]
    counts = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert counts
    assert sorted(name for name, count in counts.items() if count > 1) == []
