from math import log2

from aimv2.ablations.design import factorial, samples, wide
from aimv2.ablations.expectations import CONTENT, Combination, expect, gain, slope
from aimv2.ablations.study import Study

# Table 1's encoders, too, differ in width alone. At the scale vit_l_2b, size_200 is as wide as its 1B.
SIZES = {"size_025": 0.25, "size_050": 0.5, "size_100": 1, "size_200": 2}
SAMPLES = {"samples_025": 0.25, "samples_050": 0.5, "samples_100": 1, "samples_200": 2, "samples_400": 4}

STUDY = Study(
    slug="scaling",
    question="How do the loss of content words and probe accuracy scale with encoder size and number of samples?",
    source="AIMv2 Figures 2 and 4 (0.5 to 6.4 B samples, plots only), Tables 1 and 3",
    design=factorial(
        {name: wide(ratio) for name, ratio in SIZES.items()},
        {name: samples(ratio) for name, ratio in SAMPLES.items()},
        names=("encoder width", "samples"),
        kind="ladder of sizes x ladder of samples",
    ),
    baseline="size_100_samples_100",
    primary_metric=CONTENT,
    expected={"size_100_samples_050": "worse", "size_100_samples_200": "better", "size_200_samples_100": "better"},
    claims={
        "scaling-params-probe": (
            Combination(
                name="slope over doublings of the encoder's width, at most samples",
                weights=slope({f"{name}_samples_400": log2(ratio) for name, ratio in SIZES.items()}),
                relation="better",
                why="Table 3, IN-1k: 86.6, 87.5, 88.1 and 88.5",
            ),
            *expect("size_200_samples_400", "better", than="size_025_samples_400", why="Table 3, IN-1k: 86.6 to 88.5"),
        ),
        "scaling-data-loss": tuple(
            Combination(
                name=f"slope over doublings of the samples, encoder {ratio:g} x as wide",
                metric=CONTENT,
                weights=gain(name, {level: log2(share) for level, share in SAMPLES.items()}),
                relation="better",
                why="in place of the validation loss of Figure 2, which is plotted only",
            )
            for name, ratio in SIZES.items()
        ),
    },
)
