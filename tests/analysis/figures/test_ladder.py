"""Figures of a ladder with known effects."""

import pytest
from matplotlib.colors import to_hex, to_rgb

from ablations.expectations import STEP_TIME
from aimv2.config.recipes.scales import demo
from analysis.document.style import INK, SOFT
from analysis.figures.ladder import draw_ladder, sensitivity_map
from analysis.judgement.sensitivity import KnownEffect, Ladder, Seen, base_of

LOSS, BLIND, ACCURACY = "content_loss", "content_loss_ink", "probe_object"
RUNGS = {"samples_050": "half the samples", "samples_200": "twice the samples"}


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
        STEP_TIME: seen(0, []),
    }
    return Ladder(base=base_of(demo()), rungs=RUNGS, metrics=metrics)


def test_effects_are_in_units_of_noise_and_harm_is_positive(ladder):
    _, data = sensitivity_map(ladder)
    found = data.set_index(["metric", "rung"])["worse"].to_dict()
    assert found == pytest.approx(
        {
            (LOSS, "samples_050"): 8,
            (LOSS, "samples_200"): -6,
            (BLIND, "samples_050"): 0.2,
            (BLIND, "samples_200"): -0.04,
            (ACCURACY, "samples_050"): 20,
        }
    )


def test_map_has_a_number_per_effect_and_brackets_where_zero_is_possible(ladder):
    figure, data = sensitivity_map(ladder)
    axis = figure.axes[0]
    texts = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axis.texts}
    assert texts == {(0, 0): "8.0", (0, 1): "-6.0", (1, 0): "(0.2)", (1, 1): "(0.0)", (2, 0): "20"}
    assert data["is_detected"].tolist() == [True, True, False, False, True]
    names = {label.get_text(): to_hex(label.get_color()) for label in axis.get_yticklabels()}
    assert names == {LOSS: INK, BLIND: SOFT, ACCURACY: INK}


def test_numbers_can_be_read_on_their_cells(ladder):
    """The contrast of WCAG AA, by its formula."""

    def luminance(color):
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    axis = sensitivity_map(ladder)[0].axes[0]
    axis.figure.draw_without_rendering()
    colors = axis.collections[0].get_facecolors().reshape(len(axis.get_yticks()), len(axis.get_xticks()), -1)
    for text in axis.texts:
        column, row = (int(place) for place in text.get_position())
        light, dark = sorted([luminance(text.get_color()), luminance(colors[row, column])], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_ladder_has_a_row_per_deciding_metric_with_noise(ladder):
    figure, data = draw_ladder(ladder)
    axis = figure.axes[0]
    assert {label.get_text() for label in axis.get_yticklabels()} == {LOSS, ACCURACY}
    assert set(data["metric"]) == {LOSS, ACCURACY}
    low, high = axis.get_xlim()
    assert low < -6
    assert high > 20


def test_a_ladder_without_effects_is_empty():
    ladder = Ladder(base=base_of(demo()), rungs=RUNGS, metrics={})
    for draw in (draw_ladder, sensitivity_map):
        assert draw(ladder)[1].empty
