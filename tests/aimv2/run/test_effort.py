"""Efforts against times that were measured: their ratios."""

import pytest

from aimv2.config.paths import replaced
from aimv2.config.recipes.scales import laptop
from aimv2.request.resolve import resolve
from aimv2.run.effort import evaluation_effort, training_effort

# CPU milliseconds of a training sample, the fastest of 55 steps, on one core of an AMD EPYC.
MEASURED = {
    (): 1.445,
    (("model.encoder.depth", 2),): 1.098,
    (("model.encoder.depth", 8),): 1.502,
    (("model.decoder.width", 32), ("model.decoder.num_heads", 2), ("model.decoder.ffn_multiple", 16)): 0.947,
    (("model.decoder.width", 96), ("model.decoder.num_heads", 6)): 1.585,
    (("model.decoder.depth", 1),): 1.057,
    (("model.decoder.depth", 3),): 1.639,
    (("objective.name", "clip"),): 0.939,
    (("objective.name", "clip"), ("budget.batch_size", 32)): 0.678,
    (("budget.batch_size", 64),): 0.913,
}


@pytest.fixture(scope="module")
def base():
    return resolve(laptop(), available="cpu")


@pytest.mark.parametrize("changes", MEASURED, ids=str)
def test_training_effort_has_the_ratios_of_measured_times(base, changes):
    ratio = training_effort(replaced(base, dict(changes))) / training_effort(base)
    assert ratio == pytest.approx(MEASURED[changes] / MEASURED[()], rel=0.4)


def test_flops_alone_would_be_wrong_by_more(base):
    """At a quarter of the FLOPs, images only take 0.63 of the time."""
    only = replaced(base, {"objective.name": "image_only"})
    assert training_effort(only) / training_effort(base) == pytest.approx(0.911 / 1.445, rel=0.05)


def test_evaluation_effort_grows_with_each_count_and_is_that_of_the_untrained_encoder(base):
    assert evaluation_effort(base.untrained()) == evaluation_effort(base)
    for key, more in {
        "num_items": 10_240,
        "num_pairs": 1024,
        "num_probe_scenes": 2048,
        "probe.epochs": 12,
        "sets": ("pets.yaml",),
        "reader.samples": 40_960,
        "reader.questions": 10_240,
        "reader.pairs": 20_480,
    }.items():
        assert evaluation_effort(replaced(base, {f"evaluation.{key}": more})) > evaluation_effort(base), key


def test_a_part_of_the_evaluation_takes_that_part_of_the_effort(base):
    """All parts measured on this core took 24.9 s, and those of a sixteenth of all counts 2.2 s, digits included."""
    values = {"num_items": 5120, "num_pairs": 512, "num_other_images": 1024, "num_probe_scenes": 1024}
    values |= {"reader.samples": 20_480, "reader.pairs": 10_240, "reader.questions": 5120}
    part = replaced(base, {f"evaluation.{key}": count // 16 for key, count in values.items()})
    assert evaluation_effort(base) / evaluation_effort(part) == pytest.approx(24.9 / 2.2, rel=0.2)
