"""The core works without its wings: the packages around it are deleted in a copy."""

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
WINGS = ("aimv2/datasets", "aimv2/tools", "analysis/verify", "benchmarks")
CORE = ("base", "config", "cost", "memory", "model", "objectives", "request", "runs", "spec", "start", "training")
NAMES = re.compile(r"|".join(wing.replace("/", r"[./]") for wing in WINGS))


def of_the_core():
    """Return the test files of the core that name no wing, and use no helper that does."""
    helpers = {path.stem: path.read_text() for path in (ROOT / "tests/helpers").glob("*.py")}
    barred = {name for name, text in helpers.items() if NAMES.search(text)}
    while more := {name for name, text in helpers.items() if uses(text, barred)} - barred:
        barred |= more
    files = [path for part in CORE for path in sorted((ROOT / "tests/aimv2" / part).rglob("test_*.py"))]
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in files}
    return [name for name, text in texts.items() if not NAMES.search(text) and not uses(text, barred)]


def uses(text, helpers):
    """True if a file imports one of these helpers."""
    return any(f"tests.helpers.{name} " in text for name in helpers)


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


@pytest.mark.exhaustive
def test_the_tests_of_the_core_pass_without_the_wings(core, tmp_path):
    files = of_the_core()
    assert len(files) > 30
    ended = core("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-2000:]
    assert re.search(r"\d\d\d passed", ended.stdout)


@pytest.mark.exhaustive
def test_a_launch_runs_and_reports_without_the_wings(core, tmp_path, cache_dir):
    ended = core("sweeps/launch.py", *small_sweep(cache_dir, "sweep.seeds=2", "executor=debug", sweep="eos"))
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-2000:]
    assert len(list((tmp_path / "runs").glob("v2-*/result.json"))) == 6
    assert (tmp_path / "reports/eos/report.md").exists()
    missing = core("-m", "aimv2", "evaluate", "weights=x", "data=y.yaml")
    assert missing.returncode == 2
    assert "is not installed" in missing.stderr
