from ablations.design import one_factor, setting
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
            "uniform": setting("uniform on 1..I-1", {"prefix": {"law": "uniform"}}),
            "fixed_25": setting("fixed at 25 %", {"prefix": {"law": "fixed", "fraction": 0.25}}),
            "fixed_50": setting("fixed at 50 %", {"prefix": {"law": "fixed", "fraction": 0.5}}),
            "fixed_75": setting("fixed at 75 %", {"prefix": {"law": "fixed", "fraction": 0.75}}),
            "causal": setting("causal (prefix of 1 patch)", {"prefix": {"law": "causal"}}),
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
