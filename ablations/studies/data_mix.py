"""Mixtures of sources: of the sources at hand, or of stand-ins for the paper's, which are not all public.

On sources of one's own the baseline is the run's own mixture (``data.weights``), and the arms are each source alone,
and with three or more all without each. Sources named ``dfn``, ``coyo`` and ``hqitp`` have the paper's mixture and its
public part as arms too; with ``mixture=paper`` the paper's is the baseline, with its shares of synthetic captions.

Of the built-in sources, scenes of Material icons stand for DFN-2B (the largest), of Font Awesome icons for COYO, of
OpenMoji for HQITP (the curated one). The frozen reader decides: it learns from scenes of all sources, whatever the
encoder was trained on. ``public`` reads no dense captions, on which the reader is tested: nothing is expected of it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from aimv2.ablations.design import Arm, one_factor, setting
from aimv2.ablations.expectations import READER, expect
from aimv2.ablations.study import Study
from aimv2.base.errors import UsageError
from aimv2.base.order import quotas
from aimv2.config.data_config import DataConfig
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import PRESETS, Preset, have_roles
from aimv2.config.run_config import RunConfig

# Table 2, alt-text and synthetic captions together
PAPER = {"material_scenes": 0.60, "fontawesome_scenes": 0.09, "openmoji_scenes": 0.31}
PUBLIC = {"material_scenes": 0.30, "fontawesome_scenes": 0.09}  # the public parts: alt-text of DFN-2B and COYO


def shares(label: str, wanted: dict[str, float], **values: float | None) -> Arm:
    """Return an arm with samples from these sources, by name, in these proportions. Evaluation is on all sources."""

    def change(run: RunConfig) -> RunConfig:
        if missing := set(wanted) - set(run.data.names):
            raise UsageError(f"it trains on {sorted(missing)} and data.sources={list(run.data.sources)}")
        weights = tuple(wanted.get(name, 0.0) for name in run.data.names)
        return replaced(run, {"data.weights": weights} | {f"data.{name}": value for name, value in values.items()})

    return Arm(label=label, change=change)


def short(source: str) -> str:
    return source.removesuffix("_scenes")


def without(source: str) -> Arm:
    rest = {name: share for name, share in PAPER.items() if name != source}
    return shares(f"without {short(source)}", rest)


def fit(study: Study, base: RunConfig) -> Study:
    """Return the study with arms of the base run's sources."""
    data = base.data
    if set(data.sources) == set(PAPER):
        return study
    names = [short(name) for name in data.names]
    keys = _keys(names)
    in_use = [number for number, weight in enumerate(data.weights or [1.0] * len(names)) if weight]
    if len(in_use) < 2:
        raise UsageError(
            f"sweep=data_mix compares a mixture with its sources, and this run trains on one, {names[in_use[0]]}; name"
            " two or more, such as data.sources=[A.yaml,B.yaml]"
        )
    presets = PRESETS if have_roles(data.sources) else {}
    baseline = next((name for name, preset in presets.items() if _is(preset, data)), "mixture")
    arms = {baseline: Arm(label=presets[baseline].label if baseline in presets else _described(data))}
    arms |= {f"only_{keys[number]}": shares(f"{names[number]} alone", {data.names[number]: 1.0}) for number in in_use}
    if len(in_use) > 2:
        arms |= {f"without_{keys[number]}": _without(f"without {names[number]}", number) for number in in_use}
    for name, preset in presets.items():
        if name != baseline:
            values = {"data.weights": preset.weights, "data.dense_fractions": preset.dense_fractions}
            arms[name] = setting(preset.label, values)
    # Elsewhere the paper's mixture differs from the sources alone in its dense captions too.
    has_claim = baseline == "paper"
    alone = [f"only_{keys[number]}" for number in in_use]
    claim = expect(alone[:2], "worse", than="paper", why="Table 2; no number is given")
    return replace(
        study,
        source="AIMv2 Table 2 mixes DFN-2B, COYO and HQITP; never ablated. Caption losses are not comparable between"
        " arms that train on other captions",
        design=one_factor(**arms),
        baseline=baseline,
        expected=dict.fromkeys(alone, "worse") if has_claim else {},
        claims={"data-mix": claim} if has_claim else {},
    )


def _keys(names: Sequence[str]) -> list[str]:
    """Return the names of sources as parts of names of arms, which command lines can type."""
    keys = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in names]
    if len(set(keys)) < len(keys):
        raise UsageError(f"the sources {', '.join(names)} need names that differ in letters or digits")
    return keys


def _described(data: DataConfig) -> str:
    if data.weights is None:
        return "all sources, every pair once an epoch"
    total = sum(data.weights)
    parts = (
        f"{short(name)} {100 * weight / total:.3g} %" for name, weight in zip(data.names, data.weights, strict=True)
    )
    return f"the run's mixture: {', '.join(parts)}"


def _is(preset: Preset, data: DataConfig) -> bool:
    """True if these are the preset's shares of the samples and of dense captions."""
    fractions = tuple(data.dense_share(number) for number in range(len(data.sources)))
    return (
        data.weights is not None
        and quotas(data.weights) == quotas(preset.weights)
        and fractions == preset.dense_fractions
    )


def _without(label: str, left_out: int) -> Arm:
    """Return an arm with the run's mixture of the other sources, one of which is left out by its number."""

    def change(run: RunConfig) -> RunConfig:
        weights = run.data.weights or _sizes(run.data)
        rest = tuple(0.0 if number == left_out else float(weight) for number, weight in enumerate(weights))
        return replaced(run, {"data.weights": rest})

    return Arm(label=label, change=change)


@lru_cache(maxsize=16)
def _sizes(data: DataConfig) -> tuple[int, ...]:
    """Return the training pairs of each source, the proportions of a mixture without weights."""
    from aimv2.data.prepare import open_source  # here, because other studies open no source

    return tuple(len(open_source(source, data).train) for source in data.sources)


DATA_MIX = Study(
    slug="data_mix",
    question="Is a mixture of sources better than each source alone, and which source matters?",
    source="AIMv2 Table 2: 60 % DFN-2B, 9 % COYO, 31 % HQITP; never ablated. Caption losses are not comparable between"
    " arms that have read the names of different objects",
    design=one_factor(
        paper=shares("the paper's proportions", PAPER),
        **{short(source): shares(f"{short(source)} alone", {source: 1.0}) for source in PAPER},
        **{f"without_{short(source)}": without(source) for source in PAPER},
        public=shares(
            "public parts only: no HQITP, no synthetic captions", PUBLIC, dense_fraction=0.0, dense_fractions=None
        ),
    ),
    baseline="paper",
    primary_metric=READER,
    compares_curves=False,
    scale="laptop_mix",
    fit=fit,
    expected={"material": "worse", "fontawesome": "worse", "openmoji": "worse"},
    claims={"data-mix": expect(("material", "fontawesome"), "worse", than="paper", why="Table 2; no number is given")},
)
