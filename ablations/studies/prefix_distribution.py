from aimv2.ablations.design import one_factor, setting
from aimv2.ablations.expectations import CONTENT, expect
from aimv2.ablations.study import Study

DISTRIBUTIONS = {
    "uniform": ("uniform on 1..I-1, per image", {"law": "uniform"}),
    "figure1": ("uniform on 0..I-1, as in Figure 1", {"law": "uniform_figure1"}),
    "short": ("skewed to short prefixes, Beta(1, 3)", {"law": "beta", "alpha": 1.0, "beta": 3.0}),
    "long": ("skewed to long prefixes, Beta(3, 1)", {"law": "beta", "alpha": 3.0, "beta": 1.0}),
    "causal": ("causal (prefix of 1 patch)", {"law": "causal"}),
    "fixed_25": ("fixed at 25 %", {"law": "fixed", "fraction": 0.25}),
    "fixed_50": ("fixed at 50 %", {"law": "fixed", "fraction": 0.5}),
    "fixed_75": ("fixed at 75 %", {"law": "fixed", "fraction": 0.75}),
    "middle": ("uniform from 25 % to 75 %", {"law": "truncated", "low": 0.25, "high": 0.75}),
    "mixed_25": ("uniform, 25 % of images with full attention and no pixel loss", {"full_attention": 0.25}),
    "mixed_50": ("uniform, 50 % of images with full attention and no pixel loss", {"full_attention": 0.5}),
    "per_batch": ("uniform on 1..I-1, one length per batch", {"per": "batch"}),
}

PREFIX_DISTRIBUTION = Study(
    slug="prefix_distribution",
    question="Is any prefix-length distribution better than the uniform one per image?",
    source="AIMv2 section 2.2; ml-aim issue 32; never ablated",
    design=one_factor(**{name: setting(label, {"prefix": prefix}) for name, (label, prefix) in DISTRIBUTIONS.items()}),
    baseline="uniform",
    primary_metric=CONTENT,
    scale="demo",
    expected={"figure1": "equal", "per_batch": "equal"},
    claims={
        "uniform-prefix-length": expect(
            [name for name in DISTRIBUTIONS if name != "uniform"],
            "not better",
            than="uniform",
            metric=CONTENT,
            why="section 2.2; no number is given",
        )
    },
)
