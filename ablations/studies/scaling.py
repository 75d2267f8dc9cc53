"""Sizes: of encoders and data sets, and of images, from the start or by adaptation."""

from math import log2
from typing import Any

from aimv2.ablations.design import Arm, factorial, level, one_factor, samples, scaled, wide
from aimv2.ablations.expectations import CONTENT, READER, Combination, expect, slope
from aimv2.ablations.study import Study
from aimv2.config.program import replaced, value_at
from aimv2.config.recipes.post_training import high_res

# Table 1's encoders, too, differ in width alone. At the scale vit_l_2b, size_200 is as wide as its 1B.
SIZES = {"size_025": 0.25, "size_050": 0.5, "size_100": 1, "size_200": 2}
SAMPLES = {"samples_025": 0.25, "samples_050": 0.5, "samples_100": 1, "samples_200": 2, "samples_400": 4}

SCALING = Study(
    slug="scaling",
    question="How do the loss of content words and probe accuracy scale with encoder size and number of samples?",
    source="AIMv2 Figures 2 and 4 (0.5 to 6.4 B samples, plots only), Tables 1 and 3",
    design=factorial(
        {name: wide(ratio) for name, ratio in SIZES.items()},
        {name: samples(ratio) for name, ratio in SAMPLES.items()},
        names=("encoder width", "samples"),
        kind="ladder of sizes x ladder of samples",
    ),
    baseline="size_100_samples_100",
    primary_metric=CONTENT,
    expected={"size_100_samples_050": "worse", "size_100_samples_200": "better", "size_200_samples_100": "better"},
    claims={
        "scaling-params-probe": (
            Combination(
                name="slope over doublings of the encoder's width, at most samples",
                weights=slope({f"{name}_samples_400": log2(ratio) for name, ratio in SIZES.items()}),
                relation="better",
                why="Table 3, IN-1k: 86.6, 87.5, 88.1 and 88.5",
            ),
            *expect("size_200_samples_400", "better", than="size_025_samples_400", why="Table 3, IN-1k: 86.6 to 88.5"),
        ),
    },
)


def image(ratio: float) -> Arm:
    """Return an arm with images larger by this ratio, rendered larger too."""

    def change(run: Any) -> Any:
        rendered = scaled(ratio, "data.render_px")(run)  # first, as no image may be larger than its rendering
        return scaled(ratio, "model.image_px", multiple=run.model.patch_px)(rendered)

    return Arm(label=f"images {ratio:g} x as large", change=change, ratios={"model.image_px": ratio})


RESOLUTION = Study(
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


def adapted(label: str, *kept: str) -> Arm:
    """Return an arm that is adapted by the recipe, but for values by path that stay as in the run before."""
    return Arm(label=label, change=lambda run: replaced(high_res(run), {path: value_at(run, path) for path in kept}))


# All arms start from one trained run, whose config they change:
#
#     python -m aimv2 train scale=demo
#     python sweeps/launch.py sweep=high_res_adaptation start.weights=runs/NAME
#
# So intervals say how the arms compare from these weights: seeds vary the adaptation and not the training before it.
# The untrained encoder of the report is the model before adaptation, at the larger size.
HIGH_RES_ADAPTATION = Study(
    slug="high_res_adaptation",
    question="Does a short training on larger images adapt a model to them, and does it need to be without weight decay"
    " and without synthetic captions?",
    source="AIMv2 section 2.4: 336 and 448 px after 224 px, by 2B pairs without weight decay and without synthetic"
    " captions; no number is given for either, and none for as many pairs at the same size. Dense captions, which stand"
    " in for synthetic ones, name the labels of probe_object, so the arm with them is to be judged by probe_digits",
    design=one_factor(
        adapted=adapted("images 1.5 x as large, no weight decay, no dense captions"),
        weight_decay=adapted("with weight decay", "optimizer.weight_decay"),
        dense=adapted("with dense captions", "data.dense_fraction", "data.dense_fractions", "data.weights"),
        same_size=adapted("images as large as before", "model.image_px", "data.render_px"),
    ),
    baseline="adapted",
    compares_curves=False,
    primary_metric=READER,
    adapts=True,
    expected={"weight_decay": "worse", "same_size": "worse"},
    claims={
        "high-res-adaptation": expect(
            "same_size",
            "worse",
            than="adapted",
            why="Table B2, ViT-L: 86.6 to 87.6, there without the further pairs at 224 px",
        ),
        "zero-weight-decay": expect("weight_decay", "worse", than="adapted", why="section 2.4; no number is given"),
    },
)
