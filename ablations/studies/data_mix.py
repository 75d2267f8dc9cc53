"""Mixtures of stand-ins for the paper's sources, which are not public.

Material icons stand for DFN-2B (the largest), Font Awesome for COYO, OpenMoji for HQITP (the curated one). The study
can decide whether a mixture in these proportions is better than its parts.

The probe decides, because caption losses are not comparable between all arms. ``public`` trains on names alone: a loss
over both kinds of captions penalises it for captions that it never saw, and a loss over names favours it. Claims about
arms that read both kinds use the caption loss too.
"""

from ablations.design import Arm, one_factor
from ablations.expectations import PROBE, expect
from ablations.study import Study
from aimv2.config.paths import replaced
from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError

PAPER = {"material": 0.60, "fontawesome": 0.09, "openmoji": 0.31}  # Table 2, alt-text and synthetic together
PUBLIC = {"material": 0.30, "fontawesome": 0.09}  # the public parts of Table 2: alt-text of DFN-2B and COYO


def shares(label: str, wanted: dict[str, float], **values: float) -> Arm:
    """Return an arm with training samples from these sources in these proportions. Evaluation is on all sources."""

    def change(run: RunConfig) -> RunConfig:
        if missing := set(wanted) - set(run.data.sources):
            raise UsageError(f"it trains on {sorted(missing)} and data.sources={list(run.data.sources)}")
        weights = tuple(wanted.get(source, 0.0) for source in run.data.sources)
        return replaced(run, {"data.weights": weights} | {f"data.{name}": value for name, value in values.items()})

    return Arm(label=label, change=change)


def without(source: str) -> Arm:
    return shares(f"without {source}", {name: share for name, share in PAPER.items() if name != source})


STUDY = Study(
    slug="data_mix",
    question="Is a mixture of sources better than each source alone, and which source matters?",
    source="AIMv2 Table 2: 60 % DFN-2B, 9 % COYO, 31 % HQITP; never ablated. Caption losses are not comparable with"
    " an arm that trains on names alone. The probe classifies emoji, which favours arms with openmoji",
    design=one_factor(
        paper=shares("the paper's proportions", PAPER),
        **{source: shares(f"{source} alone", {source: 1.0}) for source in PAPER},
        **{f"without_{source}": without(source) for source in PAPER},
        public=shares("public parts only: no HQITP, no synthetic captions", PUBLIC, descriptive_fraction=0.0),
    ),
    baseline="paper",
    primary_metric=PROBE,
    equivalence_margin=0.01,
    expected={"material": "worse", "fontawesome": "worse", "openmoji": "worse", "public": "worse"},
    claims={
        "data-mix": expect(("material", "fontawesome"), "worse", than="paper", metric=(PROBE, "caption_loss")),
    },
)
