"""The lower bound of a crop's area.

The baseline is the recipe, whose bound depends on the data: 0.9 on scenes, and elsewhere the paper's 0.4. Captions of
scenes name places, which small crops make false, and no scene is shown twice, so nothing is learned by heart. On
pictures with other captions, and many epochs, the answer may be another one.
"""

from dataclasses import replace

from ablations.design import Arm, ladder, setting
from ablations.expectations import PROBE, expect
from ablations.study import Study
from aimv2.config.run_config import RunConfig

BOUNDS = {"area_008": 0.08, "area_040": 0.4, "area_100": 1.0}


def fit(study: Study, base: RunConfig) -> Study:
    """Return the study for a base run: where the recipe has one of the bounds, that arm is the baseline."""
    own = base.augment.of(base.data).min_scale
    same = [name for name, bound in BOUNDS.items() if bound == own]
    if not same:
        return study
    arms = {name: arm for name, arm in study.arms.items() if name != "recipe"}
    return replace(study, design=ladder(**arms), baseline=same[0])


STUDY = Study(
    slug="crop_scale",
    question="How small may the crops be on which the encoder trains?",
    source="AIM v1 Table 3c: at least 8 %, 40 % or all of the image, without captions, on ImageNet-1k. AIMv2 keeps 40 %"
    " and never varies it. Captions of scenes name places, which small crops make false, so the encoder is compared",
    design=ladder(
        recipe=Arm(label="crops of the recipe"),
        **{
            name: setting(f"crops of at least {100 * bound:g} %", {"augment.min_scale": bound})
            for name, bound in BOUNDS.items()
        },
    ),
    baseline="recipe",
    primary_metric=PROBE,
    equivalence_margin=0.01,
    fit=fit,
    claims={
        "v1-crop-scale": expect(
            "area_008", "worse", than="area_040", metric=PROBE, effect=0.005, why="AIM v1 Table 3c: 78.2 to 77.7"
        )
        + expect("area_100", "worse", than="area_040", metric=PROBE, effect=0.147, why="AIM v1 Table 3c: 78.2 to 63.5"),
    },
)
