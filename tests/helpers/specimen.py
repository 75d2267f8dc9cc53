"""A study that stays as it is, so that tests of reports do not change with the studies."""

from dataclasses import replace

from ablations.expectations import CAUSAL_CONTENT, CONTENT, expect
from ablations.studies import prefix_ratio

ARMS = ("uniform", "fixed_25", "fixed_50", "fixed_75", "causal")

STUDY = replace(
    prefix_ratio.STUDY,
    design=replace(prefix_ratio.STUDY.design, arms={name: prefix_ratio.STUDY.design.arms[name] for name in ARMS}),
    baseline="uniform",
    primary_metric=CONTENT,
    equivalence_margin=0.02,
    expected={"causal": "worse"},
    claims={
        "uniform-prefix-length": expect(ARMS[1:], "not better", than="uniform", metric=CONTENT),
        "prefix-beats-causal": expect("causal", "worse", than="causal", metric=CONTENT, than_metric=CAUSAL_CONTENT)
        + expect("uniform", "not worse", than="uniform", metric=CONTENT, than_metric=CAUSAL_CONTENT)
        + expect("uniform", "not worse", than="causal", metric=CONTENT, than_metric=CAUSAL_CONTENT)
        + expect("uniform", "not worse", than="causal", metric=CONTENT),
    },
)
