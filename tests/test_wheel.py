"""The wheel, installed alone in an empty folder, with every supported Python that is found here."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aimv2.cli import COMMANDS
from tests.helpers.pages import lines
from tests.helpers.wheel import build_wheel

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")  # as pyproject.toml has them
MOST_MB = 560
INSTALL = ROOT / "docs/install.md"

pytestmark = pytest.mark.exhaustive


def used_by(folder):
    """Return the bytes on disk of every file."""
    return {path.lstat().st_ino: 512 * path.lstat().st_blocks for path in folder.rglob("*") if not path.is_dir()}


def interpreter(version):
    """Return a Python of this version that starts, of pyenv or on the path; None if there is none."""
    if version == "{}.{}".format(*sys.version_info):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [*sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True), shutil.which(f"python{version}")]
    starts = (path for path in found if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0)
    return next(starts, None)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=VERSIONS)
def installed(request, wheel, tmp_path_factory):
    """Install the wheel without extras; return the environment, the bytes that it takes, and a function that types a
    command in an empty folder."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param}")
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "AIMV2", "VIRTUAL_ENV"))}
    subprocess.run([python, "-m", "venv", folder / "venv"], check=True, env=bare)
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    before = set(used_by(folder / "venv"))
    subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", wheel], check=True, env=bare)
    added = {inode: size for inode, size in used_by(folder / "venv").items() if inode not in before}
    (folder / "empty").mkdir()

    def typed(*words):
        command = [folder / "venv/bin/aimv2", *words]
        return subprocess.run(command, cwd=folder / "empty", env=bare, capture_output=True, text=True)

    return folder / "venv", sum(added.values()), typed


def test_it_is_small_and_adds_one_name(installed):
    environment, num_bytes, _ = installed
    assert num_bytes < MOST_MB * 2**20
    site = next(environment.glob("lib/python*/site-packages"))
    assert not {"ablations", "analysis", "sweeps", "reports", "torch", "tests"} & {path.name for path in site.iterdir()}


def test_every_help_is_printed(installed):
    *_, typed = installed
    assert re.fullmatch(r"aimv2-ablations \d+\.\d+\.\d+\n", typed("--version").stdout)
    for words in (["--help"], *([name, "--help"] for name in COMMANDS)):
        done = typed(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout.startswith("usage: aimv2 "), words
        assert "python sweeps/" not in done.stdout, words


def test_a_study_is_planned_and_a_claim_is_judged_without_torch(installed):
    *_, typed = installed
    planned = typed("sweep", "sweep=prefix_ratio", "dry_run=true")
    assert planned.returncode == 0, planned.stderr
    assert "28 runs, 28 to do" in planned.stdout
    assert "run: pip install 'aimv2-ablations[glyphs]'" in planned.stderr, "names of runs depend on the data"
    judged = typed("report", "check", "prefix-beats-causal", "--from-records")
    assert judged.returncode == 3, judged.stderr
    assert "By prefix_ratio: prefix-beats-causal is supported." in judged.stdout
    assert "manage" in typed("manage", "--help").stdout
    assert typed("cost", "scale=vit_l").returncode == 0


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["train"], "aimv2 train needs torch; run: pip install 'aimv2-ablations[train]'"),
        (["sweep", "sweep=eos"], "aimv2 sweep needs torch; run: pip install 'aimv2-ablations[train]'"),
        (["report", "claims"], "aimv2 report needs matplotlib; run: pip install 'aimv2-ablations[report]'"),
        (["data", "index", "x.yaml"], "aimv2 data needs PIL; run: pip install 'aimv2-ablations[train]'"),
    ],
)
def test_what_is_not_installed_is_named_with_the_command_that_installs_it(installed, words, needed):
    *_, typed = installed
    done = typed(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {needed}\n")


@pytest.mark.parametrize("line", [line for line in lines(INSTALL) if line.startswith("aimv2 ") and "train" not in line])
def test_the_commands_of_the_page_work_without_a_clone(installed, line):
    *_, typed = installed
    done = typed(*shlex.split(line.partition("|")[0], comments=True)[1:])
    assert (done.returncode in (0, 3), done.stdout != "") == (True, True), done.stderr
