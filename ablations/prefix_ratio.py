"""Does it matter how much of the image the encoder sees in both directions while it learns?"""

from collections.abc import Callable
from dataclasses import replace

from ablations.study import Arm, Claim, Expectation, Study
from aimv2.config import RunConfig
from aimv2.prefix import PrefixLaw


def law(prefix: PrefixLaw) -> Callable[[RunConfig], RunConfig]:
    return lambda run: replace(run, prefix=prefix)


STUDY = Study(
    slug="prefix_ratio",
    question="Does the prefix law matter, and how fast and how well does each learn?",
    source="AIMv2 section 2.2, where the uniform law is used and never ablated",
    baseline="uniform",
    arms={
        "uniform": Arm(label="uniform on 1..I-1", change=law(PrefixLaw(law="uniform"))),
        "fixed_25": Arm(label="fixed at 25 %", change=law(PrefixLaw(law="fixed", fraction=0.25))),
        "fixed_50": Arm(label="fixed at 50 %", change=law(PrefixLaw(law="fixed", fraction=0.5))),
        "fixed_75": Arm(label="fixed at 75 %", change=law(PrefixLaw(law="fixed", fraction=0.75))),
        "causal": Arm(label="causal, M = 1", change=law(PrefixLaw(law="causal"))),
    },
    seeds=(0, 1, 2, 3),
    primary_metric="caption_loss",
    lower_is_better=True,
    claims=(
        Claim(
            id="uniform-prefix-length",
            where="section 2.2",
            statement="Prefix lengths drawn uniformly on {1..I-1}, per image, are a good choice (never ablated).",
            expectations=tuple(
                Expectation(
                    arm=arm,
                    metric="caption_loss",
                    relation="not better",
                    than_arm="uniform",
                    than_metric="caption_loss",
                )
                for arm in ("fixed_25", "fixed_50", "fixed_75", "causal")
            ),
        ),
        Claim(
            id="prefix-beats-causal",
            where="AIM v1 Table 3d and section 5.2, inherited by AIMv2 section 2.2",
            statement="After prefix training the mask can be dropped for inference; after causal training it cannot.",
            expectations=(
                Expectation(
                    arm="causal",
                    metric="caption_loss",
                    relation="worse",
                    than_arm="causal",
                    than_metric="causal_caption_loss",
                ),
                Expectation(
                    arm="uniform",
                    metric="caption_loss",
                    relation="not worse",
                    than_arm="uniform",
                    than_metric="causal_caption_loss",
                ),
            ),
        ),
    ),
)
