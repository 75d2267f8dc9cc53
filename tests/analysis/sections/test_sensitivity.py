"""The tables of a ladder with known effects."""

import math
from dataclasses import replace

import pytest

from aimv2.analysis.inference.intervals import Estimate, detectable_difference
from aimv2.analysis.judgement.sensitivity import margins, sensitivity_of
from aimv2.analysis.sections import sensitivity
from aimv2.config.recipes.scales import demo
from tests.helpers.documents import by_row, changed, tables
from tests.helpers.ladders import ladder_of, seeing

LOSS, BLIND, ACCURACY = "reader_loss [nats/token]", "content_loss [nats/token]", "probe_object [accuracy]"
SHARE = math.log(0.9) / math.log(0.75)  # of what a quarter fewer samples harm, as a tenth fewer do
HALF = {"width_050": 0.0}  # not seen by the loss


@pytest.fixture
def ladder():
    harms = seeing("reader_loss", **HALF) | seeing("probe_object", scale=0.1) | {"content_loss": {"samples_050": 0.4}}
    found = ladder_of(harms, demo(), half_width=0.01)
    units = {"reader_loss": "nats/token", "content_loss": "nats/token", "probe_object": "accuracy"}
    metrics = {name: replace(seen, unit=units[name]) for name, seen in found.metrics.items()}
    metrics["probe_object"] = replace(metrics["probe_object"], paired_sd=0.0)
    return replace(found, metrics=metrics)


@pytest.fixture
def section(findings, ladder):
    seen = sensitivity_of(ladder)
    study = findings.study.with_margins(margins(seen))
    return sensitivity.section(changed(findings, ladder=ladder, sensitivity=seen, study=study))


def test_seeds_and_the_smallest_difference_follow_from_the_noise(section):
    def detectable(num_seeds):
        return detectable_difference(Estimate(0.0, 0.1 / math.sqrt(num_seeds), num_seeds - 1, num_seeds))

    row = by_row(tables(section)["decisions"])[LOSS]
    seeds = int(row["seeds to show a difference of the margin (80 % power)"][0])
    assert detectable(seeds) <= 0.4 * SHARE < detectable(seeds - 1)
    assert row["smallest difference that 32 seeds show"] == (f"{detectable(32):.3g}",)
