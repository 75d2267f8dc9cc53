"""Mixtures of stand-ins for the paper's sources, which are not public.

Scenes of Material icons stand for DFN-2B (the largest), of Font Awesome icons for COYO, of OpenMoji for HQITP (the
curated one). The study can decide whether a mixture in these proportions is better than its parts.

The probe decides: it is fitted on scenes of all sources, whatever the encoder was trained on. Caption losses are not
comparable, because an arm without a source has never read the names of its objects. ``public`` reads no dense captions,
which name the probe's labels. It is measured, but nothing is expected of it.
"""

from ablations.design import Arm, one_factor
from ablations.expectations import PROBE, expect
from ablations.study import Study
from aimv2.config.paths import replaced
from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError

# Table 2, alt-text and synthetic captions together
PAPER = {"material_scenes": 0.60, "fontawesome_scenes": 0.09, "openmoji_scenes": 0.31}
PUBLIC = {"material_scenes": 0.30, "fontawesome_scenes": 0.09}  # the public parts: alt-text of DFN-2B and COYO


def shares(label: str, wanted: dict[str, float], **values: float) -> Arm:
    """Return an arm with training samples from these sources in these proportions. Evaluation is on all sources."""

    def change(run: RunConfig) -> RunConfig:
        if missing := set(wanted) - set(run.data.sources):
            raise UsageError(f"it trains on {sorted(missing)} and data.sources={list(run.data.sources)}")
        weights = tuple(wanted.get(source, 0.0) for source in run.data.sources)
        return replaced(run, {"data.weights": weights} | {f"data.{name}": value for name, value in values.items()})

    return Arm(label=label, change=change)


def short(source: str) -> str:
    return source.removesuffix("_scenes")


def without(source: str) -> Arm:
    rest = {name: share for name, share in PAPER.items() if name != source}
    return shares(f"without {short(source)}", rest)


STUDY = Study(
    slug="data_mix",
    question="Is a mixture of sources better than each source alone, and which source matters?",
    source="AIMv2 Table 2: 60 % DFN-2B, 9 % COYO, 31 % HQITP; never ablated. Caption losses are not comparable between"
    " arms that have read the names of different objects",
    design=one_factor(
        paper=shares("the paper's proportions", PAPER),
        **{short(source): shares(f"{short(source)} alone", {source: 1.0}) for source in PAPER},
        **{f"without_{short(source)}": without(source) for source in PAPER},
        public=shares("public parts only: no HQITP, no synthetic captions", PUBLIC, dense_fraction=0.0),
    ),
    baseline="paper",
    primary_metric=PROBE,
    equivalence_margin=0.01,
    expected={"material": "worse", "fontawesome": "worse", "openmoji": "worse"},
    claims={
        "data-mix": expect(
            ("material", "fontawesome"), "worse", than="paper", metric=PROBE, why="Table 2; no number is given"
        ),
    },
)
