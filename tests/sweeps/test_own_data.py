"""A study on two folders of pictures: its plan, its runs and its report."""

import re

import pytest

from aimv2.analysis.judgement.sensitivity import NO_SENSITIVITY
from aimv2.run.price import price
from aimv2.sweeps import launch
from aimv2.sweeps.parse import parse
from aimv2.sweeps.search.space import tunable
from tests.helpers.marks import exhaustive
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
        own = (
            f"data.sources=[{','.join(sources)}]",
            "executor=debug",
            "sweep.seeds=1",
            "budget.samples=32",
            *small,
            *folders,
        )
        kept = [word for word in own if word.partition("=")[0] not in {one.partition("=")[0] for one in more}]
        words = small_sweep(cache_dir, *kept, *more, sweep=sweep)
        return [word.replace("PETS", f"[{tmp_path / 'pets.yaml'}]") for word in words]

    return arguments


def pages(folder):
    return (folder / "report.md").read_text()


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
        exhaustive("data_mix", (), "reader_loss", "mixture"),
        exhaustive("synthetic_fraction", (), "probe_digits", "synthetic_033"),
        ("synthetic_fraction", ("evaluation.sets=PETS",), "probe_pets", "synthetic_033"),
        exhaustive("data_mix", ("sweep.primary_metric=content_loss",), "content_loss", "mixture"),
        ("data_mix", ("sweep.baseline=only_birds", "sweep.expected.only_boats=worse"), "reader_loss", "only_birds"),
    ],
)
def test_command_line_still_has_the_last_word(command, sweep, more, metric, baseline):
    study = parse([*command(sweep, *more), "dry_run=true"]).request.study
    assert (study.primary_metric, study.baseline) == (metric, baseline)


@pytest.mark.exhaustive
def test_search_does_not_choose_by_a_labelled_set(command):
    base = parse([*command("data_mix", "evaluation.sets=PETS"), "dry_run=true"]).request.cells[0].config
    assert {"content_loss", "image_gain"} <= set(tunable(base))
    assert not [name for name in tunable(base) if name.startswith(("probe", "knn"))]


@pytest.mark.exhaustive
def test_verdict_on_own_data_takes_one_launch(command, tmp_path, capsys):
    """First without the sensitivity of these data, whose report says how to get it; then with the command it names."""
    words = command("decoder_sharing", "sweep.seeds=2", "budget.samples=64", "budget.batch_size=8")
    reports = tmp_path / "reports"
    assert launch.main(words) == 0
    capsys.readouterr()
    text = pages(reports / "decoder_sharing")
    assert NO_SENSITIVITY in text
    assert text.count("sensitivity=auto") == 1, "what is missing is said once"
    assert "The sensitivity of reader_loss, probe_digits at scale demo was " in text

    wanted, own = parse([*words, "sensitivity=auto", "dry_run=true"]), parse([*words, "dry_run=true"])
    names = {cell.name for one in wanted.plan.requests for cell in one.cells}
    missing = names - {cell.name for cell in own.plan.cells}
    assert len(wanted.plan.runs) == len(names), "runs of both are one run"
    flops = price([wanted.plan.cell_of[name].config for name in missing], lambda run: None).flops
    assert launch.main([*words, "sensitivity=auto", f"limit={0.99 * flops / 1e9}GFLOPs"]) == 2, "the limit counts both"
    assert launch.main([*words, "sensitivity=auto", f"limit={1.01 * flops / 1e9}GFLOPs"]) == 0
    printed = capsys.readouterr().out
    assert f"together: {len(missing)} runs to do; price: at most {flops:.2e} training FLOPs" in printed
    assert "captions: 90 % dense, 10 % short (data.dense_fraction=0.9)" in printed
    first, second = (line for line in printed.splitlines() if line.startswith("report: "))
    assert first == f"report: {reports / wanted.sensitivity.folder / 'report.md'}"
    assert second == f"report: {reports / 'decoder_sharing' / 'report.md'}"
    assert {path.parent.name for path in tmp_path.glob("runs/*/result.json")} == names
    assert len(list(tmp_path.glob("runs/*/attempts/*"))) == len(names), "each was done once"
    text = pages(reports / "decoder_sharing")
    assert NO_SENSITIVITY not in text
    assert "**joint-equals-separate-decoder**" in text

    assert launch.main([*words, "sensitivity=auto"]) == 0
    printed = capsys.readouterr()
    assert "note: sensitivity=auto adds nothing: the sensitivity of this base run was measured" in printed.err
    assert "together" not in printed.out
    assert "0 to do" in printed.out
