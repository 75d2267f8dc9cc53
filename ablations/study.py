"""What a study is, and the runs it asks for."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from ablations.budget import Equal, matched
from ablations.design import Arm, Design, setting, unchanged
from ablations.expand import Cell
from ablations.expectations import Expectation, default_margin, lower_is_better
from aimv2.config.paths import value_at
from aimv2.config.run_config import RunConfig, explain
from aimv2.config.signature import signature, untrained
from aimv2.errors import UsageError, unknown

UNTRAINED = "untrained"
NULL_SEED = 1000  # what the null arm's seeds are ahead of the baseline's, or the next multiple beyond every seed
OFF_LEVEL = 0.05  # from this relative distance to the ratio that was meant on, a label says what an arm came to

Control = Literal["null_control", "positive_control"]

CONTROLS: Mapping[str, Arm] = {
    "null_control": Arm(label="the baseline with other seeds", change=unchanged),
    "positive_control": Arm(label="captions of other images", change=setting({"data.captions": "shuffled"})),
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question, and the comparison that answers it, written before its runs.

    Attributes:
        slug: the name on the command line, ``sweep=<slug>``.
        source: where in the paper the question comes from.
        design: the arms and how they came about.
        baseline: the arm that the others are compared with.
        primary_metric: the metric that decides, of a run's final ones.
        equivalence_margin: of the primary metric, in its unit, that would matter to somebody.
        expected: how arms should compare with the baseline in the primary metric; nothing is expected of the others.
            ``equal`` is met where a difference that would matter is ruled out, not where none could be shown.
        claims: what the study can decide, by the claim's id (``ablations/claims.py``): what must be seen if it holds.
        seeds: every arm runs with each.
        pairing: ``seed``, arms with one seed see the same images, order, crops and initial weights, so that differences
            are taken seed by seed; ``none``, every arm has seeds of its own, and differences are between means.
        equal: what arms have in common with the baseline: ``samples``, training ``flops``, or training ``seconds`` on
            the launching machine; other arms' samples are changed to match.
        controls: arms that every study carries. ``null_control`` is the baseline again with other seeds, which must
            not come out different; ``positive_control`` is the baseline with captions of other images, which must.
    """

    slug: str
    question: str
    source: str
    design: Design
    baseline: str
    primary_metric: str
    equivalence_margin: float
    expected: Mapping[str, Literal["better", "worse", "equal"]] = dataclasses.field(default_factory=dict)
    claims: Mapping[str, tuple[Expectation, ...]] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    pairing: Literal["seed", "none"] = "seed"
    equal: Equal = "samples"
    controls: tuple[Control, ...] = ("null_control", "positive_control")

    def __post_init__(self) -> None:
        reserved = {UNTRAINED, *CONTROLS} & set(self.design.arms)
        assert not reserved, f"{self.slug}: arms {reserved} are added by themselves"
        if self.baseline not in self.design.arms:
            raise unknown("sweep.baseline", self.baseline, self.design.arms)
        assert set(self.expected) <= set(self.design.arms) - {self.baseline}, f"{self.slug}: expected of no arm"

    @property
    def arms(self) -> Mapping[str, Arm]:
        """The arms that are compared, in the order of reports; controls are apart."""
        return self.design.arms

    @property
    def conditions(self) -> list[str]:
        """Arms and controls, in the order of reports."""
        return [*self.arms, *self.controls]

    @property
    def lower_is_better(self) -> bool:
        """Of the primary metric."""
        return lower_is_better(self.primary_metric)

    def margin(self, metric: str) -> float:
        """The smallest difference in a metric that would matter, in its unit."""
        return self.equivalence_margin if metric == self.primary_metric else default_margin(metric)

    @property
    def folder(self) -> str:
        """The name of its report, at the default scale."""
        return self.slug if self.equal == "samples" else f"{self.slug}_equal_{self.equal}"

    def label(self, arm: str) -> str:
        """What people call an arm, a control, or the untrained encoder."""
        if arm == UNTRAINED:
            return "untrained"
        return self._arm(arm).label

    def as_run(self, cells: Iterable["Cell"]) -> "Study":
        """The study with labels that say what arms came to where whole layers and heads allow no level as meant."""
        came_to = self.off_levels(cells)
        arms = {
            name: dataclasses.replace(arm, label=f"{arm.label} (here {came_to[name]})") if name in came_to else arm
            for name, arm in self.arms.items()
        }
        return dataclasses.replace(self, design=dataclasses.replace(self.design, arms=arms))

    def off_levels(self, cells: Iterable["Cell"]) -> dict[str, str]:
        """What arms came to, in words, whose ratio to the baseline is not the one that was meant."""
        configs = {cell.arm: cell.config for cell in cells}
        if self.baseline not in configs:
            return {}
        came_to = {}
        for name in self.arms.keys() & configs.keys() - {self.baseline}:
            values = self._off_level(name, configs[name], configs[self.baseline])
            if values:
                came_to[name] = "; ".join(values)
        return came_to

    def _off_level(self, name: str, run: RunConfig, baseline: RunConfig) -> list[str]:
        found = []
        for path, ratio in self.arms[name].ratios.items():
            if path == "budget.samples" and self.equal != "samples":
                continue  # they are matched then
            meant = ratio / self.arms[self.baseline].ratios.get(path, 1)
            value, other = value_at(run, path), value_at(baseline, path)
            if abs(value / other / meant - 1) > OFF_LEVEL:
                found.append(f"{path.rpartition('.')[2]} {value} for {other}, {value / other:.3g} x")
        return found

    def cells(
        self,
        base: RunConfig,
        *,
        arms: Sequence[str] | None = None,
        seeds: Iterable[int] | None = None,
        images_per_second: Callable[[RunConfig], float | None] | None = None,
    ) -> list["Cell"]:
        """The runs: every arm and control with every seed, and the untrained encoder with every seed.

        Args:
            images_per_second: training speed of a run here; needed for equal seconds.

        Raises:
            UsageError: an arm that the study does not have, one that cannot be built, or one that equals another; or no
                baseline among them.
        """
        names = list(self.arms) if arms is None else list(arms)
        chosen_seeds = list(self.seeds if seeds is None else seeds)
        for name in names:
            if name not in self.arms:
                raise unknown("arm", name, self.arms)
        for kind, chosen in (("arms", names), ("seeds", chosen_seeds), ("controls", list(self.controls))):
            if (not chosen and kind != "controls") or len(set(chosen)) < len(chosen):
                raise UsageError(f"sweep.{kind}={chosen} must name at least one, and each once")
        if self.baseline not in names:
            raise UsageError(
                f"sweep.arms={names} leaves out the baseline {self.baseline!r}, with which arms are compared; add it,"
                " or name one of them with sweep.baseline="
            )
        baseline = self._changed(self.baseline, base)
        changed = {name: self._changed(name, base) for name in names} | {
            name: self._changed(name, baseline) for name in self.controls
        }
        self._check_distinct(changed, "")
        runs = {
            name: run if name in self.controls else matched(run, baseline, self.equal, images_per_second)
            for name, run in changed.items()
        }
        self._check_distinct(runs, f" once sweep.equal={self.equal} has changed their samples")
        ahead = self._ahead(names, chosen_seeds)
        runs[UNTRAINED] = untrained(baseline)
        # Seeds outside, arms inside: paired runs finish together, and a study stopped early has whole pairs.
        found = [
            Cell(arm=name, seed=seed, config=dataclasses.replace(run, seed=seed + ahead[name]))
            for seed in chosen_seeds
            for name, run in runs.items()
        ]
        trained = [cell for cell in found if cell.arm != UNTRAINED]
        assert len({cell.name for cell in trained}) == len(trained), f"{self.slug}: two cells are one run"
        return trained + [cell for cell in found if cell.arm == UNTRAINED]

    def _ahead(self, names: Sequence[str], seeds: Sequence[int]) -> dict[str, int]:
        """How far the seeds of each arm's runs, a control's or the untrained encoder's are ahead of those asked for.

        The step is beyond every seed, so seeds of different arms never meet. The positive control and the untrained
        encoder have the baseline's seeds.
        """
        step = NULL_SEED * (max(seeds) // NULL_SEED + 1)
        ahead = {name: number * step if self.pairing == "none" else 0 for number, name in enumerate(names)}
        num_blocks = len(names) if self.pairing == "none" else 0
        same = dict.fromkeys(("positive_control", UNTRAINED), ahead[self.baseline])
        return {**ahead, **same, "null_control": step * (1 + num_blocks)}

    def _check_distinct(self, runs: Mapping[str, RunConfig], when: str) -> None:
        """Refuse arms that are one run. The null control is the baseline, but for its seeds."""
        first: dict[str, str] = {}
        for name, run in runs.items():
            if (
                name != "null_control"
                and (other := first.setdefault(signature(dataclasses.replace(run, seed=0)), name)) != name
            ):
                why = when or (
                    ": the base run is too small for a step between their levels, or an override gives it what one of"
                    " them changes"
                )
                raise UsageError(f"arms {other!r} and {name!r} are the same run{why}")

    def _arm(self, name: str) -> Arm:
        return self.arms[name] if name in self.arms else CONTROLS[name]

    def _changed(self, name: str, run: RunConfig) -> RunConfig:
        try:
            return self._arm(name).change(run)
        except ValidationError as error:
            raise UsageError(f"arm {name!r} cannot exist: {explain(error)}") from error
        except UsageError as error:
            raise UsageError(f"arm {name!r} cannot exist: {error}") from error
