from aimv2.ablations.design import one_factor, setting
from aimv2.ablations.expectations import CAUSAL_CONTENT, CONTENT, PROBE, expect
from aimv2.ablations.study import Study

CAUSAL_PROBE = f"causal_{PROBE}"
V1 = "AIM v1 Table 3d, whose numbers were not found"
COLLAPSE = "AIM v1: the encoder collapses. No number was found"

PREFIX_RATIO = Study(
    slug="prefix_ratio",
    question="Does the prefix-length distribution matter for how fast and how well the model learns?",
    source="AIMv2 section 2.2, which uses the uniform distribution and never ablates it. A prefix"
    " of 50 % leaves as many patches to predict as the uniform ones on average; one causal arm scores the same ones",
    design=one_factor(
        uniform=setting("uniform on 1..I-1", {"prefix": {"law": "uniform"}}),
        fixed_50=setting("fixed at 50 %", {"prefix": {"law": "fixed", "fraction": 0.5}}),
        causal=setting("causal (prefix of 1 patch)", {"prefix": {"law": "causal"}}),
        causal_same_patches=setting(
            "causal, patches scored as in the uniform arm",
            {"prefix": {"law": "uniform"}, "model.encoder.attention": "causal"},
        ),
    ),
    baseline="uniform",
    primary_metric=CONTENT,
    scale="demo",
    expected={"causal": "worse", "causal_same_patches": "worse"},
    claims={
        # Mask in training x mask at test, in the words of captions.
        "prefix-beats-causal": tuple(
            expectation
            for arm in ("causal", "causal_same_patches")
            for expectation in expect(
                arm, "far worse", than=arm, metric=CONTENT, than_metric=CAUSAL_CONTENT, why=COLLAPSE
            )
        )
        + expect("uniform", "not worse", than="uniform", metric=CONTENT, than_metric=CAUSAL_CONTENT, why=V1)
        + expect("uniform", "not worse", than="causal", metric=CONTENT, why=V1),
        "prefix-without-mask-is-best": expect(
            "uniform", "not worse", than="causal", metric=CONTENT, than_metric=CAUSAL_CONTENT, why=V1
        )
        + expect("uniform", "not worse", than="uniform", metric=CONTENT, than_metric=CAUSAL_CONTENT, why=V1)
        + expect("uniform", "not worse", than="causal", metric=CONTENT, why=V1),
        # The same four cells by a frozen probe, as AIM v1 measured them.
        "prefix-beats-causal-probe": expect(
            "causal", "worse", than="causal", metric=PROBE, than_metric=CAUSAL_PROBE, why=V1
        )
        + expect("uniform", "not worse", than="uniform", metric=PROBE, than_metric=CAUSAL_PROBE, why=V1)
        + expect(
            "uniform",
            "not worse",
            than="causal",
            metric=PROBE,
            than_metric=CAUSAL_PROBE,
            why="AIM v1, attentive probe: 78.2 (prefix, without mask) and 77.4 (causal, with mask)",
        )
        + expect("uniform", "not worse", than="causal", metric=PROBE, why=V1),
    },
)
