from ablations.design import one_factor, setting
from ablations.expectations import expect
from ablations.study import Study

LOSS, MASKED = "caption_loss", "causal_caption_loss"  # without and with a causal mask at test

STUDY = Study(
    slug="prefix_ratio",
    question="Does the prefix-length distribution matter for how fast and how well the model learns?",
    source="AIMv2 section 2.2, which uses the uniform distribution and never ablates it",
    design=one_factor(
        uniform=setting("uniform on 1..I-1", {"prefix": {"law": "uniform"}}),
        fixed_25=setting("fixed at 25 %", {"prefix": {"law": "fixed", "fraction": 0.25}}),
        fixed_50=setting("fixed at 50 %", {"prefix": {"law": "fixed", "fraction": 0.5}}),
        fixed_75=setting("fixed at 75 %", {"prefix": {"law": "fixed", "fraction": 0.75}}),
        causal=setting("causal (prefix of 1 patch)", {"prefix": {"law": "causal"}}),
    ),
    baseline="uniform",
    primary_metric=LOSS,
    equivalence_margin=0.02,
    expected={"causal": "worse"},
    claims={
        "uniform-prefix-length": expect(
            ("fixed_25", "fixed_50", "fixed_75", "causal"), "not better", than="uniform", metric=LOSS
        ),
        # Mask in training x mask at test. The causal encoder must be worse without its mask than with it. The prefix
        # encoder without a mask must not be worse than any of the other three.
        "prefix-beats-causal": expect("causal", "worse", than="causal", metric=LOSS, than_metric=MASKED)
        + expect("uniform", "not worse", than="uniform", metric=LOSS, than_metric=MASKED)
        + expect("uniform", "not worse", than="causal", metric=LOSS, than_metric=MASKED)
        + expect("uniform", "not worse", than="causal", metric=LOSS),
    },
)
