from math import log2
from typing import Any

from aimv2.ablations.design import Arm, level, one_factor, scaled
from aimv2.ablations.expectations import CONTENT, Combination, slope
from aimv2.ablations.study import Study


def image(ratio: float) -> Arm:
    """Return an arm with images larger by this ratio, rendered larger too."""

    def change(run: Any) -> Any:
        rendered = scaled(ratio, "data.render_px")(run)  # first, as no image may be larger than its rendering
        return scaled(ratio, "model.image_px", multiple=run.model.patch_px)(rendered)

    return Arm(label=f"images {ratio:g} x as large", change=change, ratios={"model.image_px": ratio})


STUDY = Study(
    slug="resolution",
    question="Do larger images or smaller patches help, at equal samples (or, with sweep.equal=flops, at equal training"
    " FLOPs)?",
    source="AIMv2 Figure 3 and Table B2: 224, 336 and 448 px, where larger images also had more samples. The patch size"
    " was never varied",
    design=one_factor(
        base=Arm(label="images and patches of the recipe"),
        image_150=image(1.5),
        image_200=image(2),
        patch_050=level("patches 0.5 x as large", 0.5, "model.patch_px"),
        patch_200=level("patches 2 x as large", 2, "model.patch_px"),
    ),
    baseline="base",
    primary_metric=CONTENT,
    expected={"image_150": "better", "image_200": "better", "patch_200": "worse"},
    claims={
        "scaling-resolution": (
            Combination(
                name="slope over doublings of the image's side",
                weights=slope({"base": 0, "image_150": log2(1.5), "image_200": 1}),
                relation="better",
                why="Figure 3, ViT-L: 86.6, 87.6 and 87.9, there with more samples and here with as many",
            ),
        )
    },
)
