"""A ladder of effects that exist by construction: which metrics see them, and how large are they beside the noise?

``analysis/judgement/findings.py`` computes it, and verdicts of all studies at the same scale read it
(docs/statistics.md). Captions of other images are the positive control, and the untrained encoder is in every study.
The report reads both.
"""

from dataclasses import replace

from ablations.design import Arm, level, one_factor, samples, setting, widened
from ablations.expectations import CONTENT, CONTENT_MARGIN
from ablations.study import Study

STUDY = Study(
    slug="sensitivity",
    question="Which metrics can tell effects that must exist, and how large are these effects beside the noise?",
    source="no claim of the paper; what the instrument can see is measured before it judges",
    design=one_factor(
        base=Arm(label="the recipe"),
        samples_025=samples(0.25),
        samples_050=samples(0.5),
        samples_200=samples(2),
        depth_050=level("encoder 0.5 x as deep", 0.5, "model.encoder.depth"),
        # The probe splits features into heads of one width for all arms.
        width_050=replace(
            widened(0.5, "model.encoder", multiple="evaluation.probe.head_dim"), label="encoder 0.5 x as wide"
        ),
        pixels_shuffled=setting("pixels of other images", {"data.pixels": "shuffled"}),
        hidden_050=setting("half of the patches hidden", {"augment.hidden_fraction": 0.5}),
    ),
    baseline="base",
    primary_metric=CONTENT,
    equivalence_margin=CONTENT_MARGIN,
    # Pixels of other images must harm pixel losses. Whether they harm captions depends on the use of the pixel loss.
    expected={
        "samples_025": "worse",
        "samples_050": "worse",
        "samples_200": "better",
        "depth_050": "worse",
        "width_050": "worse",
        "hidden_050": "worse",
    },
)
