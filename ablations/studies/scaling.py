from itertools import pairwise

from ablations.design import Arm, factorial, samples
from ablations.expectations import CONTENT, CONTENT_MARGIN, PROBE, expect
from ablations.study import Study
from aimv2.config.paths import replaced
from aimv2.config.run_config import RunConfig

# Heads and learning rate of L, H, 1B and 3B, relative to L (Tables 1 and A1).
SIZES = {"size_100": (1, 1), "size_150": (1.5, 0.8), "size_200": (2, 0.8), "size_300": (3, 0.4)}
SAMPLES = {"samples_025": 0.25, "samples_050": 0.5, "samples_100": 1, "samples_200": 2}


def size(heads_ratio: float, rate_ratio: float) -> Arm:
    """Return an arm with an encoder of more heads, wider by the same ratio, and its learning rate.

    Heads keep their width, as in Table 1, because the probe splits the features into heads of that width and must be
    the same for all arms.
    """

    def change(run: RunConfig) -> RunConfig:
        encoder = run.model.encoder
        num_heads = max(round(encoder.num_heads * heads_ratio), 1)
        return replaced(
            run,
            {
                "model.encoder.num_heads": num_heads,
                "model.encoder.width": encoder.width // encoder.num_heads * num_heads,
                "optimizer.peak_lr": run.optimizer.peak_lr * rate_ratio,
            },
        )

    ratios = dict.fromkeys(("model.encoder.width", "model.encoder.ffn_hidden"), heads_ratio)
    return Arm(label=f"{heads_ratio:g} x as wide", change=change, ratios=ratios)


STUDY = Study(
    slug="scaling",
    question="How do the loss of content words and probe accuracy scale with encoder size and number of samples?",
    source="AIMv2 Figures 2 and 4 (0.5 to 6.4 B samples, plots only), Tables 1 and 3",
    design=factorial(
        {name: size(*ratios) for name, ratios in SIZES.items()},
        {name: samples(ratio) for name, ratio in SAMPLES.items()},
        names=("encoder width", "samples"),
        kind="ladder of sizes x ladder of samples",
    ),
    baseline="size_100_samples_100",
    primary_metric=CONTENT,
    equivalence_margin=CONTENT_MARGIN,
    expected={"size_100_samples_050": "worse", "size_100_samples_200": "better", "size_200_samples_100": "better"},
    claims={
        "scaling-params-probe": tuple(
            expectation
            for small, large in pairwise(SIZES)
            for expectation in expect(
                f"{large}_samples_200",
                "not worse",
                than=f"{small}_samples_200",
                metric=PROBE,
                why="Table 3, IN-1k: 86.6, 87.5, 88.1 and 88.5",
            )
        )
        + expect(
            "size_300_samples_200",
            "better",
            than="size_100_samples_200",
            metric=PROBE,
            effect=0.019,
            why="Table 3, IN-1k: 86.6 to 88.5",
        ),
        "scaling-data-loss": tuple(
            expectation
            for name in SIZES
            for fewer, more in pairwise(SAMPLES)
            for expectation in expect(
                f"{name}_{more}",
                "better",
                than=f"{name}_{fewer}",
                metric=CONTENT,
                why="in place of the validation loss of Figure 2, which is plotted only",
            )
        ),
    },
)
