"""The core works without its wings: the packages around it are deleted in a copy."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.sweeps import small_sweep

ROOT = Path(__file__).parents[1]
PACKAGES = ("aimv2", "ablations", "sweeps", "analysis", "benchmarks")
WINGS = ("aimv2/tools", "analysis/verify", "benchmarks")
CORE = (
    *("base", "config", "data", "datasets", "definitions", "evaluation", "memory", "model", "objectives", "request"),
    *("run", "runs", "training", "ablations"),
)


@pytest.fixture
def core(tmp_path):
    """Copy the repository without the wings, and call Python in the copy; what is installed elsewhere is not seen."""
    for folder in (*PACKAGES, "tests", "docs", "pyproject.toml", "constraints.txt"):
        source = ROOT / folder
        if source.is_dir():
            shutil.copytree(source, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / folder)
    for wing in WINGS:
        shutil.rmtree(tmp_path / wing)
    # An editable install would find the wings in the repository.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path[:] = [each for each in sys.meta_path if 'Editable' not in repr(each)]\n"
    )

    def python(*arguments, **options):
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # many processes import the copy
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, **options
        )

    return python


def names_in(source):
    """Return the modules that a file imports, and its strings, of which some may be imported."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_core_names_no_wing():
    wing = re.compile("|".join(rf"(aimv2\.)?{one.replace('/', '.')}(\.\w+)*" for one in WINGS))
    for path in (path for part in CORE for path in (ROOT / "aimv2" / part).rglob("*.py")):
        assert [name for name in names_in(path.read_text()) if wing.fullmatch(name)] == [], path


@pytest.mark.exhaustive
def test_a_launch_runs_and_reports_without_the_wings(core, tmp_path, cache_dir):
    ended = core("sweeps/launch.py", *small_sweep(cache_dir, "sweep.seeds=2", "executor=debug", sweep="eos"))
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-2000:]
    assert len(list((tmp_path / "runs").glob("v2-*/result.json"))) == 6
    assert (tmp_path / "reports/eos/report.md").exists()
