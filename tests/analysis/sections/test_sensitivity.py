"""The tables of a ladder with known numbers."""

from dataclasses import replace

import pytest

from analysis.judgement.sensitivity import KnownEffect, Ladder, Seen
from analysis.sections import sensitivity
from tests.helpers.documents import by_row, tables

EFFECT = KnownEffect(mean=0.4, low=0.3, high=0.5, num_seeds=4)
LADDER = Ladder(
    base={"scale": "test"},
    rungs={"samples_050": "half", "samples_200": "twice"},
    metrics={
        "content_loss": Seen(unit="nats/token", seed_sd=0.2, paired_sd=0.1, effects={"samples_050": EFFECT}),
        "probe_object": Seen(unit="accuracy", seed_sd=0.0, paired_sd=0.0, effects={}),
    },
)


@pytest.fixture
def found(findings):
    return tables(sensitivity.section(replace(findings, ladder=LADDER)))


def test_study_without_a_ladder_has_no_section(findings):
    assert sensitivity.section(findings) is None


def test_decisions_give_the_small_step_in_units_of_noise(found):
    row = by_row(found["decisions"])["content_loss [nats/token]"]
    assert row["decides claims"] == ("yes",)
    assert row["half of the samples (time: of the depth)"] == ("+0.400 [+0.300, +0.500], 4 seeds",)
    assert row["in units of noise"] == ("4",)
    blind = by_row(found["decisions"])["probe_object [accuracy]"]
    assert blind["decides claims"] == ("no",)
    assert blind["in units of noise"] == ("",)


def test_seeds_for_the_margin_follow_from_the_noise(found):
    """The margin of this study is 0.02, a fifth of the noise: about 2 (1.96 + 0.84)^2 x 25 / 2 seeds."""
    needed = int(by_row(found["decisions"])["content_loss [nats/token]"]["seeds to show a difference of the margin"][0])
    assert needed == pytest.approx((1.96 + 0.84) ** 2 * 25, rel=0.05)


def test_rungs_have_effect_and_noise(found):
    rows = by_row(found["rungs"])
    assert rows["content_loss"]["half"] == ("+0.400 [+0.300, +0.500]", "4 x noise")
    assert rows["content_loss"]["twice"] == ("",)
    values = [cell.value for row in found["rungs"].rows for cell in row[1:] if cell]
    assert values == [0.4]
