"""A ladder of effects that are certain because of how the arms are made: which metrics see them, beside the noise?

``analysis/judgement/findings.py`` computes it, and verdicts of all studies on the same base read it
(docs/statistics.md). Captions of other images are the positive control, and the untrained encoder is in every study:
the report reads both. No rung is a claim of the paper.
"""

from collections.abc import Mapping

from aimv2.ablations.claims import Kind
from aimv2.ablations.design import Arm, level, one_factor, samples, setting, switch_objective, wide
from aimv2.ablations.expectations import CONTENT
from aimv2.ablations.study import Study

SAMPLES = {"samples_025": 0.25, "samples_050": 0.5, "samples_075": 0.75, "samples_200": 2.0}  # shares of the base's
BETTER = ("samples_200", "width_200", "depth_200")  # rungs that must be better than the base, not worse
PIXELS_ONLY, IMAGE_ONLY = "pixels_only", "image_only"  # the rung that trains on pixels alone, and its objective
WITHOUT_WORDS = (PIXELS_ONLY, "positive_control")  # no meaning of words reaches the encoder
WITHOUT_PIXELS = ("pixels_shuffled",)  # no meaning of pixels reaches a decoder
FLOOR = (PIXELS_ONLY, *WITHOUT_PIXELS)  # better than untrained: the encoder learns of images
OTHER_SIZES = ("depth_050", "depth_200", "width_050", "width_200")  # rungs that cannot start from the base's weights
# What a metric must see before it decides a claim of a kind.
RUNGS: Mapping[Kind, tuple[str, ...]] = {
    "words": WITHOUT_WORDS,
    "pixels": WITHOUT_PIXELS,
    "width": ("width_050",),
    "depth": ("depth_050",),
    "larger": ("width_200", "depth_200"),
    "attention": ("hidden_050",),
    "samples": ("samples_050", "samples_075", "samples_200"),
}


SENSITIVITY = Study(
    slug="sensitivity",
    question="Which metrics can tell effects that must exist, and how large are these effects beside the noise?",
    source="no claim of the paper; what the instrument can see is measured before it judges",
    design=one_factor(
        base=Arm(label="the recipe"),
        **{name: samples(ratio) for name, ratio in SAMPLES.items()},
        depth_050=level("encoder 0.5 x as deep", 0.5, "model.encoder.depth"),
        depth_200=level("encoder 2 x as deep", 2, "model.encoder.depth"),
        width_050=wide(0.5),
        width_200=wide(2),
        pixels_only=switch_objective("pixels only", IMAGE_ONLY),
        pixels_shuffled=setting("pixels of other images", {"data.pixels": "shuffled"}),
        hidden_050=setting("half of the patches hidden", {"augment.hidden_fraction": 0.5}),
    ),
    baseline="base",
    primary_metric=CONTENT,
    scale="demo",
    # Pixels of other images must harm pixel losses. Whether they harm captions depends on the use of the pixel loss.
    expected={
        "samples_025": "worse",
        "samples_050": "worse",
        "samples_075": "worse",
        "samples_200": "better",
        "depth_050": "worse",
        "width_050": "worse",
        "hidden_050": "worse",
    },
)
