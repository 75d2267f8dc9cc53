"""Sensitivity as data: the rule, the file, and the runs that it holds for."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.ablations.ladder import nearest_ladder, read_ladder
from aimv2.ablations.studies.sensitivity import RUNGS
from aimv2.analysis.inference.intervals import Noise
from aimv2.analysis.judgement.sensitivity import MARGIN_SHARE, NO_SENSITIVITY, SampleCurve, insensitive, sensitivity_of
from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from aimv2.request.resolve import with_attention
from tests.helpers.ladders import ladder_of, read_sensitivity, seeing, write_ladder


def judged(metric, config=None, **changed):
    """Return the sensitivity of a metric that sees everything but for these effects; None was not measured."""
    return sensitivity_of(ladder_of(seeing(metric, **changed), config or demo()))[metric]


@pytest.mark.parametrize("metric", ["reader_loss", "probe_object", "content_loss", "knn_object"])
def test_a_metric_that_sees_every_rung_decides_all_kinds(metric):
    found = judged(metric)
    assert not found.is_blind
    assert found.unseen == {}
    assert found.noise == Noise(0.1)
    assert found.curve.margin == pytest.approx(0.4 * math.log(0.9) / math.log(0.75))


@pytest.mark.parametrize(
    "changed",
    [
        {"samples_025": 0.9},  # not worse than half of the samples
        {"samples_075": -0.1},
        {"samples_200": 0.1},
        {"samples_025": None, "samples_050": None, "samples_075": None, "samples_200": None},
        {"untrained": 0.1},
        {"untrained": None},
        {"positive_control": 0.15},  # told from the base, but by no more than the margin of 0.146
        {"positive_control": None},
        {"pixels_only": -0.5},
        {"pixels_only": None},
        {"pixels_only": 4.9},  # hardly better than untrained
    ],
)
def test_a_metric_that_does_not_order_what_is_certain_decides_nothing(changed):
    assert judged("reader_loss", **changed).is_blind


@pytest.mark.parametrize(
    ("changed", "unseen"),
    [
        ({"width_050": 0.05}, {"width"}),
        ({"width_050": -0.5}, {"width"}),
        ({"width_050": None}, {"width"}),
        ({"depth_050": 0.0}, {"depth"}),
        ({"width_200": 0.5}, {"larger"}),
        ({"depth_200": -0.05}, {"larger"}),
        ({"hidden_050": 0.0}, {"attention"}),
        ({"samples_075": 0.05}, {"samples"}),
        ({"pixels_shuffled": -0.3}, {"pixels"}),
        ({"samples_075": None, "hidden_050": None}, {"samples", "attention"}),
    ],
)
def test_a_metric_decides_no_claim_of_a_kind_of_which_it_misses_a_rung(changed, unseen):
    found = judged("reader_loss", **changed)
    assert not found.is_blind
    assert set(found.unseen) == unseen
    for kind in RUNGS:
        why = insensitive("reader_loss", {"reader_loss": found}, [kind])
        assert bool(why) == (kind in unseen)


def test_pixel_losses_and_runs_without_captions_need_own_pixels_and_no_words():
    assert not judged("content_loss", pixels_only=None).is_blind, "training on pixels alone has no decoder of captions"
    for metric, objective in (("pixel_loss_0.5", "aimv2"), ("probe_object", "image_only")):
        base = replaced(demo(), {"objective": {"name": objective}})
        assert not judged(metric, base, positive_control=None, pixels_only=None).is_blind
        assert judged(metric, base, pixels_shuffled=0.1).is_blind


SHARES = (0.25, 0.5, 0.75, 2.0)


@given(slope=st.floats(0.01, 10))
def test_the_margin_is_what_a_tenth_of_the_samples_is_worth(slope):
    """Of a metric that gets worse by a slope with each halving of the samples; interpolation is exact."""
    assert MARGIN_SHARE == 0.1
    curve = SampleCurve({share: -slope * math.log2(share) for share in SHARES})
    assert curve.margin == pytest.approx(-slope * math.log2(0.9))
    assert SampleCurve({0.5: slope, 2.0: -0.1}).margin == pytest.approx(slope * math.log(0.9) / math.log(0.5))


@pytest.mark.parametrize("harms", [{}, {0.5: -0.1}, {0.5: 0.1, 2.0: 0.1}, {0.25: 0.1, 0.5: 0.2}])
def test_a_curve_that_is_not_monotone_has_no_margin(harms):
    assert math.isnan(SampleCurve(harms).margin)


@given(harms=st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_a_curve_is_monotone_if_every_cut_in_samples_harms(harms):
    by_share = dict(zip(SHARES, harms, strict=True))
    ordered = [by_share[0.25], by_share[0.5], by_share[0.75], 0.0, by_share[2.0]]
    assert SampleCurve(by_share).is_monotone == all(np.diff(ordered) < 0)


def test_file_is_read_as_it_was_write_ladder(tmp_path):
    ladder = ladder_of(seeing("content_loss"), demo())
    path = write_ladder(tmp_path, ladder) / "sensitivity/sensitivity.json"
    assert read_ladder(path) == ladder


def test_sensitivity_holds_for_the_same_run_with_another_seed_and_place(tmp_path):
    ladder = ladder_of(seeing("reader_loss"), demo())
    reports = write_ladder(tmp_path, ladder)
    assert read_sensitivity(reports, demo()) == sensitivity_of(ladder)
    other_seed = replaced(demo(), {"seed": 3, "data.cache_dir": "elsewhere", "loader.num_workers": 1})
    assert read_sensitivity(reports, other_seed) == sensitivity_of(ladder)


@pytest.mark.parametrize(
    "values",
    [
        {"prefix": {"law": "causal"}},
        {"data.weights": (0.6, 0.09, 0.31)},
        {"model.decoder.depth": 3},
        {"evaluation.num_pairs": 64},
    ],
    ids=lambda values: next(iter(values)),
)
def test_any_other_value_of_the_base_is_not_measured(tmp_path, values):
    reports = write_ladder(tmp_path, ladder_of(seeing("content_loss"), demo()))
    assert read_sensitivity(reports, replaced(demo(), values)) == {}
    assert insensitive("content_loss", {}) == NO_SENSITIVITY


def test_own_data_are_told_apart_by_their_content_wherever_they_are(tmp_path):
    own = replaced(demo(), {"data.sources": ("/data/cc3m.yaml",), "data.fingerprint": "one"})
    reports = write_ladder(tmp_path, ladder := ladder_of(seeing("content_loss"), own))
    moved = replaced(own, {"data.sources": ("/elsewhere/cc3m.yaml",)})
    assert read_sensitivity(reports, moved) == sensitivity_of(ladder)
    assert read_sensitivity(reports, replaced(moved, {"data.fingerprint": "two"})) == {}


def test_own_findings_come_before_committed_ones_of_more_rungs(tmp_path):
    base = with_attention(demo())
    committed = nearest_ladder(tmp_path, base)
    few = ladder_of(seeing("content_loss", width_050=None, depth_050=None, pixels_shuffled=None), base)
    assert not committed.measured <= few.measured
    assert nearest_ladder(write_ladder(tmp_path, few), base) == few


def test_of_two_studies_of_a_base_that_with_more_rungs_counts(tmp_path):
    few = ladder_of(seeing("content_loss", hidden_050=None, width_050=None), demo())
    reports = write_ladder(
        write_ladder(tmp_path, few, "sensitivity_few"), ladder_of(seeing("content_loss"), demo()), "sensitivity_most"
    )
    assert "hidden_050" not in few.measured
    assert "hidden_050" in nearest_ladder(reports, demo()).measured


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
    path = write_ladder(tmp_path, ladder_of(seeing("content_loss"), demo())) / "sensitivity/sensitivity.json"
    changed = change(json.loads(path.read_text()))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(UsageError, match=message) as caught:
        read_sensitivity(tmp_path, demo())
    assert str(path) in str(caught.value)
    assert "report.py sensitivity" in str(caught.value)
