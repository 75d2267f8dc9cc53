import pytest

from aimv2.base.typed import CLONE, COMMAND, FORM, as_typed, form_of, keep_form


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/launch.py").touch()
    (tmp_path / "aimv2").mkdir()
    (tmp_path / "aimv2/sweeps").symlink_to("../sweeps")
    return tmp_path / "aimv2"


def test_scripts_of_a_clone_are_typed_by_their_paths(clone, tmp_path):
    assert form_of(tmp_path / "sweeps/launch.py", clone) == CLONE
    assert form_of(tmp_path / "aimv2/__main__.py", clone) == CLONE


def test_the_command_prints_itself_in_a_clone_too(clone, tmp_path):
    assert form_of(tmp_path / ".venv/bin/aimv2", clone) == COMMAND
    assert form_of(tmp_path / "Scripts/aimv2.exe", clone) == COMMAND


def test_an_installation_and_a_snapshot_have_no_scripts(tmp_path):
    installed = tmp_path / "site-packages/aimv2"
    (installed / "sweeps").mkdir(parents=True)
    assert form_of(tmp_path / "worker.py", installed) == COMMAND


@pytest.mark.parametrize(
    ("form", "manage", "train"),
    [(CLONE, "python sweeps/manage.py", "python -m aimv2 train"), (COMMAND, "aimv2 manage", "aimv2 train")],
)
def test_processes_print_the_form_of_the_one_that_started_them(monkeypatch, form, manage, train):
    monkeypatch.setenv(FORM, form)
    keep_form()
    assert (as_typed("manage"), as_typed("train")) == (manage, train)
