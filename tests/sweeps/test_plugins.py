"""A launch with plug-ins: bad ones are one sentence, and an edit reaches the runs that use it, and no waiting one."""

import re
from pathlib import Path

import pytest

from aimv2.analysis import report
from aimv2.base.errors import UsageError
from aimv2.base.plugins import using
from aimv2.sweeps import launch
from aimv2.sweeps.freeze import freeze
from aimv2.sweeps.parse import parse
from tests.helpers.marks import exhaustive
from tests.helpers.sweeps import small_sweep

STUDY = """
import numpy as np
from aimv2.extend import metric, one_factor, prefix_distribution, setting, study

@prefix_distribution
def half(num_patches, progress, share=0.5):
    return (np.arange(1, num_patches) == round(num_patches * share)).astype(float)

@metric("share", lower_is_better=False)
def seen(model):
    return float(model.config.prefix.law == "half")

study(slug="halves", question="?", source="none", baseline="uniform", primary_metric="caption_loss", scale="demo",
    design=one_factor(uniform=setting("uniform", {}), half=setting("half", {"prefix.law": "half"})))
"""
HALF = "(np.arange(1, num_patches) == round(num_patches * share)).astype(float)"
ONE = ("sweep.seeds=1", "executor=debug")


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A plug-in with a study, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(STUDY)
    return Path("mine.py")


@pytest.fixture
def launched(cache_dir, capsys):
    """A function that launches the study of the plug-in here; returns the exit status and all that is printed."""

    def start(*words, plugins="plugins=[mine.py]"):
        status = launch.main([plugins, *small_sweep(cache_dir, *ONE, *words, sweep="halves")])
        return status, " ".join("".join(capsys.readouterr()).split())

    return start


def edited(file, old, new):
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def names(cache_dir):
    """The runs of the study by arm, as a launch would name them."""
    with using([Path("mine.py")]):
        cells = parse(small_sweep(cache_dir, *ONE, "dry_run=true", sweep="halves")).request.cells
        return {cell.arm: cell.name for cell in cells}


def test_an_edit_names_new_runs_for_the_arms_that_use_the_plugin_and_no_others(file, cache_dir):
    before = names(cache_dir)
    edited(file, "share=0.5", "share=0.25")
    after = names(cache_dir)
    assert set(before) == {"uniform", "half", "untrained"}
    assert {arm for arm in before if before[arm] != after[arm]} == {"half"}
    edited(file, '"caption_loss"', '"seen"')
    assert not set(names(cache_dir).values()) & set(before.values()), "every run measures it"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(num_patches, progress", "(patches, progress", "cannot be loaded: the arguments of half are num_patches"),
        ("def half", "def uniform", "cannot be loaded: the prefix.law 'uniform' exists already, built in"),
        ("import numpy as np", "import numbpy", "cannot be loaded: ModuleNotFoundError: No module named 'numbpy'"),
        (HALF, "-1", "arm 'half' cannot exist: prefix.law=half returns an array of shape [] instead of [15]"),
        (HALF, "np.ones(15)", "arm 'half' cannot exist: prefix.law=half returns probabilities that sum to 15 instead"),
        (HALF, "num_patchs", "arm 'half' cannot exist: prefix.law=half fails at num_patches=16, share=0.5, progress=0"),
        ('"prefix.law": "half"', '"prefix.law": "hal"', "arm 'half' cannot exist: unknown prefix.law 'hal'. Did you"),
        ("share=0.5", "share", "arm 'half' cannot exist: prefix.law=half needs prefix.parameters.share"),
        ('"caption_loss"', '"sen"', "unknown sweep.primary_metric 'sen'. Did you mean 'seen'?"),
        ('slug="halves"', 'slug="eos"', "cannot be loaded: the sweep 'eos' exists already, built in"),
    ],
)
def test_a_bad_plugin_is_one_sentence_before_anything_runs(file, launched, old, new, message):
    edited(file, old, new)
    status, shown = launched("dry_run=true")
    assert status == 2
    assert shown.startswith("error: ")
    assert message in shown
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("plugins=[gone.py]", "gone.py: there is no such file"),
        ("plugins=[]", "unknown sweep 'halves'"),
        ("plugins=", "plugins= has no value"),
        ("plugins=[mine.py,other.py]", "other.py cannot be loaded: the prefix.law 'half' exists already, in "),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(file, launched, words, message):
    Path("other.py").write_text(STUDY + "# the same names")
    status, shown = launched(plugins=words)
    assert status == 2
    assert message in shown


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            HALF,
            f"{HALF} if progress != 0.25 else 1 / 0",
            "bug: prefix.law=half fails at num_patches=16, share=0.5, pro",
        ),
        exhaustive("return float(", "return float('nan') * float(", "not finite: metric seen is nan after training"),
        exhaustive("return float(", "return str(", "False', which is neither a number nor Items"),
        exhaustive("return float(", "return model.nothing(", "bug: metric seen: AttributeError: 'TrainedModel' object"),
    ],
)
def test_what_fails_in_a_run_is_a_failed_run_with_its_cause(file, launched, old, new, message):
    edited(file, old, new)
    status, shown = launched("evaluation.metrics=[seen]", "sweep.arms=[uniform,half]")
    assert status == 1
    assert message in shown


def test_a_plugin_is_copied_as_it_was_planned(file):
    """Debugging runs in this process; other workers import the snapshot (tests/docs/test_extend.py)."""
    with using([file]) as (plugin,):
        code = freeze(Path("runs"))
        copy = code / "plugins" / plugin.digest / "mine.py"
        assert copy.read_text() == STUDY
        assert freeze(Path("runs")) == code
        edited(file, "share=0.5", "share=0.25")
        with pytest.raises(UsageError, match=r"mine\.py was edited while the launch was planned; launch again"):
            freeze(Path("runs2"))
    assert not list(Path("runs2").rglob("mine.py"))
    with using([file]):
        assert freeze(Path("runs")) != code
    assert copy.read_text() == STUDY


@pytest.fixture
def done(file, launched):
    """The folder after a launch of the study."""
    status, shown = launched("evaluation.metrics=[seen]")
    assert status == 0, shown
    return file.resolve().parent


@pytest.mark.exhaustive
def test_records_of_another_folder_say_which_plugin_they_need(done, tmp_path, capsys):
    words = ["halves", "--from-records", "reports_dir=reports"]
    Path("runs").rename("elsewhere")
    assert report.main(words) == 2
    error = " ".join("".join(capsys.readouterr()).split())
    assert re.search(
        r"records\.parquet needs the plug-in mine\.py \([0-9a-f]{12}\); type plugins=\[PATH/mine\.py\]", error
    )
    assert report.main(["plugins=[mine.py]", *words]) == 0
