import os

import pytest

from aimv2.compose import compose, run_config, writable_folder
from aimv2.errors import UsageError
from aimv2.scales import demo


def composed(*overrides):
    return compose(overrides, defaults={}, values={"runs_dir": "runs"})


def test_without_overrides_it_is_the_recipe():
    assert run_config(composed()) == run_config(composed("scale=demo")) == demo()


def test_overrides_reach_every_part():
    config = run_config(
        composed(
            "model.encoder.width=48", "prefix.law=fixed", "prefix.fraction=0.5", "data.sources=[material]", "seed=7"
        )
    )
    assert config.model.encoder.width == 48
    assert config.prefix.fraction == 0.5
    assert config.data.sources == ("material",)
    assert config.seed == 7
    assert composed("runs_dir=/elsewhere")["runs_dir"] == "/elsewhere"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scale=dmeo", r"unknown scale 'dmeo'. Did you mean 'demo'\? Allowed: demo"),
        ("modle.encoder.width=3", "unknown key 'modle.encoder.width'.* Allowed: .*model"),
        ("model.encoder.widht=3", r"Did you mean 'model.encoder.width'\?"),
        ("samples=3", "unknown key 'samples'"),
        ("seed", "key=value"),
        ("--multirun", "key=value"),
        ("seed=1,2", "one plain key=value"),
        ("+new=1", "one plain key=value"),
        ("~seed", "one plain key=value"),
        ("seed=[1", "cannot read"),
        ("model=3", "model"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_sentence(override, message):
    with pytest.raises(UsageError, match=message) as caught:
        run_config(composed(override))
    assert "\n" not in str(caught.value)


def test_a_folder_is_made_and_left_clean(tmp_path):
    assert writable_folder(str(tmp_path / "a" / "b"), "runs_dir") == tmp_path / "a" / "b"
    assert not os.listdir(tmp_path / "a" / "b")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"runs_dir='.*file/x' cannot be written: Not a directory"):
        writable_folder(str(tmp_path / "file" / "x"), "runs_dir")


def test_a_full_disk_is_named_before_anything_runs(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    probe = tmp_path / f".writable-{os.getpid()}"
    probe.symlink_to("/dev/full")
    with pytest.raises(UsageError, match="No space left on device"):
        writable_folder(str(tmp_path), "runs_dir")
