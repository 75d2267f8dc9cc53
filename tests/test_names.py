"""Names of classes: each means one thing within a package."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("aimv2", "ablations", "sweeps", "analysis", "benchmarks")


def repeated(sources):
    """Return the classes that are defined more than once in these texts."""
    trees = [ast.parse(source) for source in sources]
    counts = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return sorted(name for name, count in counts.items() if count > 1)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_class_name_is_defined_twice_in_a_package(package):
    sources = [path.read_text() for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 1
    assert repeated(sources) == []


def test_repeated_names_are_found():
    assert repeated(["class A: ...\nclass B: ...", "if True:\n    class A: ..."]) == ["A"]
