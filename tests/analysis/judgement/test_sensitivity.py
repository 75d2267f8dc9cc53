"""Sensitivity as data: the rule, the file, and the runs that it holds for."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ablations.catalogue import STUDIES
from ablations.expectations import STEP_TIME
from aimv2.base.errors import UsageError
from aimv2.config.paths import replaced
from aimv2.config.recipes.scales import demo
from analysis.judgement.sensitivity import (
    KnownEffect,
    Ladder,
    Seen,
    base_of,
    ladder_text,
    read_ladder,
    read_sensitivity,
    seeds_needed,
    sensitivity_of,
)


def effect(mean, half_width=0.1):
    return KnownEffect(mean=mean, low=round(mean - half_width, 8), high=round(mean + half_width, 8), num_seeds=4)


def ladder_of(effects, *, config=None):
    """Return a ladder with these effects, by metric and rung."""
    metrics = {
        metric: Seen(unit="", seed_sd=0.2, paired_sd=0.1, effects={rung: effect(mean) for rung, mean in rungs.items()})
        for metric, rungs in effects.items()
    }
    return Ladder(base=base_of(config or demo()), rungs={"samples_050": "half"}, metrics=metrics)


@pytest.mark.parametrize(
    ("metric", "rungs", "tells"),
    [
        ("content_loss", {"samples_050": 0.4}, True),
        ("content_loss", {"samples_050": 0.05}, False),  # the interval includes 0
        ("content_loss", {"samples_050": -0.4}, False),  # the wrong direction
        ("content_loss", {"samples_050": 0.4, "samples_200": -0.4}, True),
        ("content_loss", {"samples_050": 0.4, "samples_200": 0.05}, True),  # not told, but not contradicted
        ("content_loss", {"samples_050": 0.4, "samples_200": 0.4}, False),  # contradicted
        ("content_loss", {"samples_025": 0.4}, False),  # the small step was not measured
        ("probe_object", {"samples_050": -0.4}, True),
        ("probe_object", {"samples_050": 0.4}, False),
        ("pixel_loss_0.5", {"samples_050": 0.4}, True),
        (STEP_TIME, {"samples_050": 0.4}, False),
        (STEP_TIME, {"depth_050": -0.4}, True),
        (STEP_TIME, {"depth_050": 0.4}, False),
    ],
)
def test_a_metric_decides_if_it_tells_half_the_samples(metric, rungs, tells):
    assert sensitivity_of(ladder_of({metric: rungs}))[metric].tells_small_steps == tells


def test_texts_name_step_size_seeds_and_scale():
    found = sensitivity_of(ladder_of({"content_loss": {"samples_050": 0.41}, "probe_count": {"samples_050": -0.002}}))
    assert found["content_loss"].text == (
        "content_loss tells half the samples from all of them (+0.410 [+0.310, +0.510], 4 seeds) at scale demo"
    )
    assert found["probe_count"].text == (
        "not testable at scale demo with this metric: probe_count does not tell half the samples from all of them"
        " (-0.002 [-0.102, +0.098], 4 seeds)"
    )


@given(size=st.floats(0.05, 3), paired_sd=st.floats(0.01, 2))
def test_seeds_needed_are_the_fewest_with_the_power(size, paired_sd):
    found = seeds_needed(paired_sd, size)

    def power(n):
        critical = stats.t.ppf(0.975, n - 1)
        return stats.nct.sf(critical, n - 1, size / paired_sd * math.sqrt(n))

    if math.isinf(found):
        assert power(999) < 0.8
    else:
        assert power(found) >= 0.8 - 1e-6
        assert found == 2 or power(found - 1) < 0.8 + 1e-6


def test_no_number_of_seeds_shows_no_difference():
    assert math.isinf(seeds_needed(0.1, 0))
    assert seeds_needed(0, 0.1) == 2


def written(folder, ladder, name="sensitivity"):
    (folder / name).mkdir(parents=True)
    (folder / name / "sensitivity.json").write_text(ladder_text(ladder))
    return folder


def test_file_is_read_as_it_was_written(tmp_path):
    ladder = ladder_of({"content_loss": {"samples_050": 0.4}})
    path = written(tmp_path, ladder) / "sensitivity/sensitivity.json"
    assert read_ladder(path) == ladder


def test_sensitivity_holds_for_the_same_run_with_another_seed_and_place(tmp_path):
    ladder = ladder_of({"choice_accuracy": {"samples_050": -0.4}})
    reports = written(tmp_path, ladder)
    assert read_sensitivity(reports, demo()) == sensitivity_of(ladder)
    other_seed = replaced(demo(), {"seed": 3, "data.cache_dir": "elsewhere", "loader.num_workers": 1})
    assert read_sensitivity(reports, other_seed) == sensitivity_of(ladder)


def test_another_base_is_not_measured_and_the_text_says_what_differs(tmp_path):
    reports = written(tmp_path, ladder_of({"content_loss": {"samples_050": 0.4}}))
    other = replaced(demo(), {"budget.samples": 5120, "data.sources": ("material_scenes",)})
    found = read_sensitivity(reports, other)["content_loss"]
    assert not found.tells_small_steps
    assert f"budget.samples={demo().budget.samples}" in found.text
    assert "run python sweeps/launch.py sweep=sensitivity scale=demo" in found.text
    assert "data.sources=[material_scenes]" in found.text.partition(": run")[2]
    assert "budget.samples=5120" in found.text.partition(": run")[2]


@pytest.mark.parametrize(
    ("fingerprint", "expected"),
    [
        ("v2-25db5aa0b864", "start.weights=/a/run 'sweep.arms=[base,samples_025,samples_050,samples_200]' "),
        ("25db5aa0b864", "scale=demo start.weights=/a/run 'sweep.arms=[base,samples_025,samples_050,samples_200]' "),
    ],
)
def test_another_start_is_typed_as_its_weights_with_arms_of_the_same_size(tmp_path, fingerprint, expected):
    """A name of a run, whose scale must not be typed, or a hash of an imported folder."""
    reports = written(tmp_path, ladder_of({"content_loss": {"samples_050": 0.4}}))
    start = {"start.weights": "/a/run", "start.fingerprint": fingerprint, "optimizer.weight_decay": 0.0}
    text = read_sensitivity(reports, replaced(demo(), start))["content_loss"].text
    assert (
        text.partition("run python sweeps/launch.py ")[2]
        == f"sweep=sensitivity {expected}optimizer.weight_decay=0.0 sweep.suffix=weight_decay"
    )
    arms = expected.partition("[")[2].partition("]")[0].split(",")
    assert set(arms) <= STUDIES["sensitivity"].arms.keys()


@pytest.mark.parametrize(
    "values",
    [
        {"prefix": {"law": "causal"}},
        {"data.dense_fraction": 0.33},
        {"data.weights": (0.6, 0.09, 0.31)},
        {"model.decoder.depth": 3},
        {"objective.pixel_weight": 0.5},
        {"evaluation.num_pairs": 64},
        {"optimizer.peak_lr": 0.01},
        {"budget.batch_size": 32},
    ],
    ids=lambda values: next(iter(values)),
)
def test_any_other_value_of_the_base_is_not_measured(tmp_path, values):
    reports = written(tmp_path, ladder_of({"content_loss": {"samples_050": 0.4}}))
    assert not read_sensitivity(reports, replaced(demo(), values))["content_loss"].tells_small_steps


@pytest.mark.parametrize(
    ("slug", "measured", "command"),
    [
        (
            "synthetic_fraction",
            "with data.dense_fraction=0.9, not with data.dense_fraction=0.33",
            "data.dense_fraction=0.33",
        ),
        ("data_mix", "with data.weights=null, not with data.weights=[0.6,0.09,0.31]", "'data.weights=[0.6,0.09,0.31]'"),
    ],
)
def test_baseline_that_is_not_the_recipe_names_the_command_that_measures_it(tmp_path, slug, measured, command):
    study = STUDIES[slug]
    reports = written(tmp_path, ladder_of({"probe_digits": {"samples_050": -0.4}}))
    text = read_sensitivity(reports, study.arms[study.baseline].change(demo()))["probe_digits"].text
    assert measured in text
    assert text.partition(": run ")[2].startswith("python sweeps/launch.py sweep=sensitivity scale=demo ")
    assert f" {command} sweep.suffix={command.partition('=')[0].rpartition('.')[2]}" in text


def test_text_names_three_values_and_the_command_all(tmp_path):
    reports = written(tmp_path, ladder_of({"content_loss": {"samples_050": 0.4}}))
    values = {
        "objective.supervise_eos": True,
        "log.every_steps": 2,
        "optimizer.clip_norm": 2.0,
        "model.decoder.depth": 3,
    }
    other = replaced(demo(), values | {"optimizer.beta1": 0.8, "data.fingerprint": "other", "threads": 2, "seed": 9})
    text = read_sensitivity(reports, other)["content_loss"].text
    seen, _, command = text.partition(": run ")
    assert seen.endswith("and 1 more"), "fingerprint, threads, seed and log do not count"
    assert seen.count("=") == 6
    *values, suffix = command.split()[4:]
    assert suffix.partition("=")[0] == "sweep.suffix", "it has a report of its own"
    assert set(values) == {
        "objective.supervise_eos=true", "optimizer.beta1=0.8", "optimizer.clip_norm=2.0", "model.decoder.depth=3"
    }  # fmt: skip


def test_own_data_are_named_by_their_files_and_told_apart_by_their_content(tmp_path):
    own = replaced(demo(), {"data.sources": ("/data/cc3m.yaml",), "data.fingerprint": "one"})
    reports = written(tmp_path, ladder_of({"content_loss": {"samples_050": 0.4}}, config=own))
    moved = replaced(own, {"data.sources": ("/elsewhere/cc3m.yaml",)})
    assert read_sensitivity(reports, moved)["content_loss"].tells_small_steps
    other = replaced(moved, {"data.fingerprint": "two", "evaluation.sets": ("/sets/pets.yaml",)})
    found = read_sensitivity(reports, other)["content_loss"]
    assert not found.tells_small_steps
    assert "with data.fingerprint=one, " in found.text
    command = found.text.partition(": run ")[2]
    assert "'evaluation.sets=[/sets/pets.yaml]'" in command
    assert "fingerprint" not in command, "no one can type it"
    text = read_sensitivity(reports, replaced(other, {"data.sources": ("/data/coyo.yaml",)}))["content_loss"].text
    assert "'data.sources=[/data/coyo.yaml]'" in text.partition(": run ")[2]


def test_each_base_has_its_own(tmp_path):
    other = replaced(demo(), {"data.dense_fraction": 0.33})
    tells, blind = ladder_of({"content_loss": {"samples_050": 0.4}}), ladder_of({"content_loss": {}}, config=other)
    reports = written(written(tmp_path, tells), blind, "sensitivity_dense_033")
    assert read_sensitivity(reports, demo()) == sensitivity_of(tells)
    assert read_sensitivity(reports, other) == sensitivity_of(blind)


BROKEN = [
    (lambda values: "{", "cannot be read"),
    (lambda values: [], "is not the result of a sensitivity study"),
    (lambda values: values | {"version": 1}, "is not the result of a sensitivity study"),
    (lambda values: values | {"extra": 1}, "is not the result of a sensitivity study"),
    (lambda values: values | {"base": {}}, "base.scale is missing"),
    (lambda values: values | {"metrics": {"happiness": values["metrics"]["content_loss"]}}, "unknown metric"),
    (
        lambda values: values | {"metrics": {"content_loss": values["metrics"]["content_loss"] | {"paired_sd": -1}}},
        "is not the result of a sensitivity study",
    ),
    (
        lambda values: values | {"metrics": {"content_loss": values["metrics"]["content_loss"] | {"seed_sd": np.inf}}},
        "sensitivity",
    ),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_broken_file_is_refused(tmp_path, change, message):
    path = written(tmp_path, ladder_of({"content_loss": {"samples_050": 0.4}})) / "sensitivity/sensitivity.json"
    changed = change(json.loads(path.read_text()))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(UsageError, match=message) as caught:
        read_sensitivity(tmp_path, demo())
    assert str(path) in str(caught.value)
    assert "report.py sensitivity" in str(caught.value)
