"""A study that stays as it is, so that tests of reports do not change with the studies.

It has the name of a study of the catalogue, because records name it.
"""

from dataclasses import replace

from aimv2.ablations.design import one_factor, setting
from aimv2.ablations.expectations import CAUSAL_CONTENT, CONTENT, expect
from aimv2.ablations.studies.prefix_ratio import PREFIX_RATIO

OTHERS = ("fixed_25", "fixed_50", "fixed_75", "causal")

STUDY = replace(
    PREFIX_RATIO,
    design=one_factor(
        uniform=setting("uniform on 1..I-1", {"prefix": {"law": "uniform"}}),
        fixed_25=setting("fixed at 25 %", {"prefix": {"law": "fixed", "fraction": 0.25}}),
        fixed_50=setting("fixed at 50 %", {"prefix": {"law": "fixed", "fraction": 0.5}}),
        fixed_75=setting("fixed at 75 %", {"prefix": {"law": "fixed", "fraction": 0.75}}),
        causal=setting("causal (prefix of 1 patch)", {"prefix": {"law": "causal"}}),
    ),
    baseline="uniform",
    primary_metric=CONTENT,
    equivalence_margin=0.02,
    expected={"causal": "worse"},
    claims={
        "prefix-beats-causal": expect(OTHERS, "not better", than="uniform", metric=CONTENT),
        "prefix-without-mask-is-best": expect(
            "causal", "worse", than="causal", metric=CONTENT, than_metric=CAUSAL_CONTENT
        )
        + expect("uniform", "not worse", than="uniform", metric=CONTENT, than_metric=CAUSAL_CONTENT)
        + expect("uniform", "not worse", than="causal", metric=CONTENT, than_metric=CAUSAL_CONTENT)
        + expect("uniform", "not worse", than="causal", metric=CONTENT),
    },
)
