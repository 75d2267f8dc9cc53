"""Adaptation of a trained model to larger images.

All arms start from one run, whose config they change:

    python -m aimv2 train scale=demo
    python sweeps/launch.py sweep=high_res_adaptation start.weights=runs/NAME

So intervals say how the arms compare from these weights: seeds vary the adaptation and not the training before it. The
untrained encoder of the report is the model before adaptation, at the larger size.
"""

from aimv2.ablations.design import Arm, one_factor
from aimv2.ablations.expectations import READER, expect
from aimv2.ablations.study import Study
from aimv2.config.program import replaced, value_at
from aimv2.config.recipes.post_training import high_res


def adapted(label: str, *kept: str) -> Arm:
    """Return an arm that is adapted by the recipe, but for values by path that stay as in the run before."""
    return Arm(label=label, change=lambda run: replaced(high_res(run), {path: value_at(run, path) for path in kept}))


STUDY = Study(
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
