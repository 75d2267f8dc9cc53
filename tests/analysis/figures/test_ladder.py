"""Figures of a ladder with known effects."""

import pytest

from aimv2.ablations.ladder import KnownEffect, Ladder, Seen, base_of
from aimv2.analysis.figures.ladder import draw_ladder
from aimv2.config.recipes.scales import demo

LOSS, BLIND, ACCURACY = "content_loss", "content_loss_ink", "probe_object"
RUNGS = {"samples_050": "half the samples", "samples_200": "twice the samples"}
NOT_RUN = {"untrained": "untrained"}


def effect(mean, half_width=0.1):
    return KnownEffect(mean=mean, low=mean - half_width, high=mean + half_width, num_seeds=4)


@pytest.fixture(scope="module")
def ladder():
    def seen(paired_sd, effects):
        return Seen(unit="a unit", seed_sd=1, paired_sd=paired_sd, effects=dict(zip(RUNGS, effects, strict=False)))

    metrics = {
        LOSS: seen(0.05, [effect(0.4), effect(-0.3)]),
        BLIND: seen(0.05, [effect(0.01), effect(-0.002)]),
        ACCURACY: seen(0.1, [effect(-2)]),
        "without_noise": seen(0, []),
    }
    return Ladder(base=base_of(demo()), rungs={**NOT_RUN, **RUNGS}, metrics=metrics)


def test_effects_are_in_units_of_noise_and_harm_is_positive(ladder):
    found = draw_ladder(ladder)[1].set_index(["metric", "rung"])["worse"].to_dict()
    assert found == pytest.approx({(LOSS, "samples_050"): 8, (LOSS, "samples_200"): -6, (ACCURACY, "samples_050"): 20})


def test_ladder_has_a_row_per_deciding_metric_with_noise(ladder):
    figure, data = draw_ladder(ladder)
    axis = figure.axes[0]
    assert {label.get_text() for label in axis.get_yticklabels()} == {LOSS, ACCURACY}
    assert set(data["metric"]) == {LOSS, ACCURACY}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(RUNGS.values())
    low, high = axis.get_xlim()
    assert {-5, -2, 2, 5, 10, 20} <= {round(place) for place in axis.get_xticks()}, "effects can be read off"
    assert low < -6
    assert high > 20


def test_a_ladder_without_effects_is_empty():
    ladder = Ladder(base=base_of(demo()), rungs=RUNGS, metrics={})
    assert draw_ladder(ladder)[1].empty
