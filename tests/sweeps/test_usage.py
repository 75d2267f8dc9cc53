import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.config.arguments import FORM
from aimv2.sweeps.manage import COMMANDS
from aimv2.sweeps.usage import launch_usage, manage_usage


def test_a_launch_lists_every_study_with_its_question():
    text = launch_usage()
    assert all(f"\n  {name}\n    {study.question}\n" in text for name, study in STUDIES.items())
    assert "executor=debug|local|slurm" in text


def test_every_command_of_manage_is_listed():
    assert all(f"\n  {name} " in manage_usage() for name in COMMANDS)


@pytest.mark.parametrize(
    ("form", "launch", "manage"),
    [
        ("clone", "python sweeps/launch.py sweep=NAME", "python sweeps/manage.py COMMAND"),
        ("aimv2", "aimv2 sweep sweep=NAME", "aimv2 manage COMMAND"),
    ],
)
def test_helps_have_the_form_in_which_the_program_was_started(monkeypatch, form, launch, manage):
    monkeypatch.setenv(FORM, form)
    assert launch_usage().startswith(f"usage: {launch}")
    assert manage_usage().startswith(f"usage: {manage}")
