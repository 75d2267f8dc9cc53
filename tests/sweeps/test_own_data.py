"""A study on two folders of pictures: its plan, its runs and its report."""

import re

import pytest

from sweeps import launch
from sweeps.parse import parse
from sweeps.search.space import tunable
from tests.helpers.own_data import own_set, own_source
from tests.helpers.sweeps import small_sweep


@pytest.fixture
def command(cache_dir, tmp_path):
    """Return the arguments of a small study on two folders, which are a labelled set too, and others in their place."""
    sources = (own_source(tmp_path, "birds", licence="CC BY 4.0"), own_source(tmp_path, "boats"))
    own_set(tmp_path, "pets", "birds", "boats", licence="CC BY-SA 4.0")

    def arguments(sweep, *more):
        small = ("evaluation.num_items=8", "evaluation.num_pairs=8", "evaluation.num_other_images=8")
        folders = (f"runs_dir={tmp_path / 'runs'}", f"reports_dir={tmp_path / 'reports'}")
        own = (f"data.sources=[{','.join(sources)}]", "executor=debug", "sweep.seeds=1", *small, *folders)
        kept = [word for word in own if word.partition("=")[0] not in {one.partition("=")[0] for one in more}]
        words = small_sweep(cache_dir, "budget.samples=32", *kept, *more, sweep=sweep)
        return [word.replace("PETS", f"[{tmp_path / 'pets.yaml'}]") for word in words]

    return arguments


def pages(folder):
    return "\n".join((folder / name).read_text() for name in ("report.md", "details.md"))


@pytest.mark.exhaustive
def test_study_runs_and_reports_on_own_data(command, tmp_path, capsys):
    assert launch.main(command("data_mix", "sweep.arms=[mixture,only_boats]")) == 0
    plan = capsys.readouterr().out
    assert "takes the place of" not in plan, "the reader reads own captions"
    text = pages(tmp_path / "reports/data_mix")
    assert "The primary metric is reader_loss in nats/token" in text
    assert "only_boats: boats alone" in text
    assert "| boats alone | birds | 0 | 0 |" in text
    assert "Images: birds (CC BY 4.0), boats (no licence stated)." in text
    assert re.findall("glyph|emoji|(?<!num_probe_)scene|composition", text, flags=re.I) == []


@pytest.mark.exhaustive
def test_labelled_set_decides(command, tmp_path):
    more = ("evaluation.sets=PETS", "evaluation.set_images=40", "sweep.arms=[synthetic_033,synthetic_100]")
    assert launch.main(command("synthetic_fraction", *more)) == 0
    text = pages(tmp_path / "reports/synthetic_fraction")
    assert "probe_pets takes the place of probe_digits, the study's metric on other data." in text
    assert "The primary metric is probe_pets in accuracy" in text
    assert "Labelled sets: pets (CC BY-SA 4.0)." in text


@pytest.mark.parametrize(
    ("sweep", "more", "metric", "baseline"),
    [
        ("data_mix", (), "reader_loss", "mixture"),
        ("synthetic_fraction", (), "probe_digits", "synthetic_033"),
        ("synthetic_fraction", ("evaluation.sets=PETS",), "probe_pets", "synthetic_033"),
        ("data_mix", ("sweep.primary_metric=content_loss",), "content_loss", "mixture"),
        ("data_mix", ("sweep.baseline=only_birds", "sweep.expected.only_boats=worse"), "reader_loss", "only_birds"),
    ],
)
def test_command_line_still_has_the_last_word(command, sweep, more, metric, baseline):
    study = parse([*command(sweep, *more), "dry_run=true"]).request.study
    assert (study.primary_metric, study.baseline) == (metric, baseline)


def test_search_does_not_choose_by_a_labelled_set(command):
    base = parse([*command("data_mix", "evaluation.sets=PETS"), "dry_run=true"]).request.cells[0].config
    assert {"content_loss", "image_gain"} <= set(tunable(base))
    assert not [name for name in tunable(base) if name.startswith(("probe", "knn"))]
