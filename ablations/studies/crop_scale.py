"""The lower bound of a crop's area.

The baseline is the recipe: at least 0.9 on scenes, and elsewhere the paper's 0.4. Crops vary images that are shown many
times, and make captions of scenes false. So on scenes the claim is judged without captions and on a finite set only:

    python sweeps/launch.py sweep=crop_scale objective.name=image_only data.scenes.num_scenes=1000
"""

from dataclasses import replace

from aimv2.ablations.design import Arm, ladder, setting
from aimv2.ablations.expectations import READER, expect
from aimv2.ablations.study import Study
from aimv2.config.run_config import RunConfig
from aimv2.definitions.objectives import objective

BOUNDS = {"area_008": 0.08, "area_040": 0.4, "area_100": 1.0}


def fit(study: Study, base: RunConfig) -> Study:
    """Return the study for a base run: where the recipe has one of the bounds, that arm is the baseline."""
    own = base.augment.of(base.data).min_scale
    same = [name for name, bound in BOUNDS.items() if bound == own]
    if not same:
        return study
    arms = {name: arm for name, arm in study.arms.items() if name != "recipe"}
    return replace(study, design=ladder(**arms), baseline=same[0])


MIN_EPOCHS = 4


def lacks(run: RunConfig) -> str:
    """Return what a run on scenes lacks for crops to be able to help."""
    if not run.data.has_scenes:
        return ""
    if objective(run.objective.name).reads_captions:
        return "crops make captions of scenes false; type objective.name=image_only"
    num_scenes = run.data.scenes.num_scenes * len(run.data.sources)
    if run.budget.samples < MIN_EPOCHS * num_scenes:
        fitting = max(run.budget.samples // (2 * MIN_EPOCHS * len(run.data.sources)), 1)
        return f"hardly a scene is shown twice, so crops vary nothing; type data.scenes.num_scenes={fitting}"
    return ""


CROP_SCALE = Study(
    slug="crop_scale",
    question="How small may the crops be on which the encoder trains?",
    source="AIM v1 Table 3c: at least 8 %, 40 % or all of the image, without captions, on ImageNet-1k. AIMv2 keeps 40 %"
    " and never varies it",
    design=ladder(
        recipe=Arm(label="crops of the recipe (on scenes at least 90 %)"),
        **{
            name: setting(f"crops of at least {100 * bound:g} %", {"augment.min_scale": bound})
            for name, bound in BOUNDS.items()
        },
    ),
    baseline="recipe",
    primary_metric=READER,
    fit=fit,
    needs={"v1-crop-scale": lacks},
    claims={
        "v1-crop-scale": expect("area_008", "worse", than="area_040", why="AIM v1 Table 3c: 78.2 to 77.7")
        + expect("area_100", "worse", than="area_040", why="AIM v1 Table 3c: 78.2 to 63.5")
    },
)
