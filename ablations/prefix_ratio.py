"""Does it matter how much of the image the encoder sees in both directions while it learns?"""

from ablations.design import Arm, one_factor, setting
from ablations.study import Expectation, Study, expect

STUDY = Study(
    slug="prefix_ratio",
    question="Does the prefix law matter, and how fast and how well does each learn?",
    source="AIMv2 section 2.2, where the uniform law is used and never ablated",
    design=one_factor(
        {
            "uniform": Arm(label="uniform on 1..I-1", change=setting({"prefix": {"law": "uniform"}})),
            "fixed_25": Arm(label="fixed at 25 %", change=setting({"prefix": {"law": "fixed", "fraction": 0.25}})),
            "fixed_50": Arm(label="fixed at 50 %", change=setting({"prefix": {"law": "fixed", "fraction": 0.5}})),
            "fixed_75": Arm(label="fixed at 75 %", change=setting({"prefix": {"law": "fixed", "fraction": 0.75}})),
            "causal": Arm(label="causal, M = 1", change=setting({"prefix": {"law": "causal"}})),
        }
    ),
    baseline="uniform",
    primary_metric="caption_loss",
    smallest_difference=0.02,
    expected={"causal": "worse"},
    claims={
        "uniform-prefix-length": expect(
            ("fixed_25", "fixed_50", "fixed_75", "causal"), "not better", than="uniform", metric="caption_loss"
        ),
        "prefix-beats-causal": (
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
    },
)
