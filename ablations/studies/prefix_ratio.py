"""Does it matter how much of the image the encoder sees bidirectionally during training?"""

from ablations.design import Arm, one_factor, setting
from ablations.expectations import Expectation, Relation, expect
from ablations.study import Study

# Mask in training x mask at test. The causal encoder must be worse without its mask than with it. The prefix encoder
# without a mask must not be worse than any of the other three.
CELLS: tuple[tuple[str, Relation, str, str], ...] = (
    ("causal", "worse", "causal", "causal_caption_loss"),
    ("uniform", "not worse", "uniform", "causal_caption_loss"),
    ("uniform", "not worse", "causal", "causal_caption_loss"),
    ("uniform", "not worse", "causal", "caption_loss"),
)

STUDY = Study(
    slug="prefix_ratio",
    question="Does the prefix-length distribution matter for how fast and how well the model learns?",
    source="AIMv2 section 2.2, which uses the uniform distribution and never ablates it",
    design=one_factor(
        {
            "uniform": Arm(label="uniform on 1..I-1", change=setting({"prefix": {"law": "uniform"}})),
            "fixed_25": Arm(label="fixed at 25 %", change=setting({"prefix": {"law": "fixed", "fraction": 0.25}})),
            "fixed_50": Arm(label="fixed at 50 %", change=setting({"prefix": {"law": "fixed", "fraction": 0.5}})),
            "fixed_75": Arm(label="fixed at 75 %", change=setting({"prefix": {"law": "fixed", "fraction": 0.75}})),
            "causal": Arm(label="causal (prefix of 1 patch)", change=setting({"prefix": {"law": "causal"}})),
        }
    ),
    baseline="uniform",
    primary_metric="caption_loss",
    equivalence_margin=0.02,
    expected={"causal": "worse"},
    claims={
        "uniform-prefix-length": expect(
            ("fixed_25", "fixed_50", "fixed_75", "causal"), "not better", than="uniform", metric="caption_loss"
        ),
        "prefix-beats-causal": tuple(
            Expectation(arm=arm, metric="caption_loss", relation=relation, than_arm=than_arm, than_metric=than_metric)
            for arm, relation, than_arm, than_metric in CELLS
        ),
    },
)
