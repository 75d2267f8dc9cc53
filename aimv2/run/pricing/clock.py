"""Time of a run on this machine, from earlier runs or from a short one that measures it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from aimv2.base.errors import UsageError
from aimv2.base.files import writable_folder
from aimv2.base.hardware import hardware
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature
from aimv2.config.training_config import BudgetConfig, LogConfig, OptimizerConfig
from aimv2.memory import choose
from aimv2.memory.machine import available_memory, total_memory
from aimv2.run.pricing.effort import CURVE_SHARE, evaluation_effort
from aimv2.run.pricing.price import RunSeconds, max_train_flops
from aimv2.run.pricing.recorded import Part, RecordedTime, nearest, recorded, remember, shapes
from aimv2.runs.record import RunFolder

STEPS = 8
# Training FLOPs. A batch is cut until a step takes no more than the first. A model whose samples take more than the
# second is not measured, since its evaluation would take minutes.
MAX_STEP_FLOPS = {"cpu": 5e9, "cuda": 1e14}
MAX_SAMPLE_FLOPS = {"cpu": 1e9, "cuda": 1e12}
MAX_EVALUATION_EFFORT = 0.8  # of the part of the evaluation that is measured
FEWEST = 8  # pairs or images of each kind, if the run has as many

Calibration = Callable[[RunConfig], list[RecordedTime]]


def calibrate(config: RunConfig, *, memory: Callable[[], float] = available_memory) -> list[RecordedTime]:
    """Train the run for a few steps, evaluate it on a part of the data, and remember its times.

    Args:
        memory: bytes that are free now.

    Returns:
        Its times; none if the model is too large for this machine, or the short run fails.
    """
    if max_train_flops(config, 1) > MAX_SAMPLE_FLOPS[config.device]:
        return []
    short = _short(config, STEPS, MAX_EVALUATION_EFFORT)
    if config.device == "cpu" and choose(short, total_memory()).needed > memory():
        return []
    from aimv2.run.execute import execute  # here, since torch takes seconds to load

    with TemporaryDirectory() as folder:
        try:
            writable_folder(config.data.cache_dir, "data.cache_dir")
        except UsageError:  # a plan needs no folder
            config = replace(config, data=replace(config.data, cache_dir=folder))
        # What a process does once, such as imports, is done by the first of the two.
        for short in (_short(config, 1, 0.0), _short(config, STEPS, MAX_EVALUATION_EFFORT)):
            run = RunFolder(Path(folder), signature(short))
            attempt = run.acquire(short)
            assert attempt is not None, "the folder is new"
            with Console(stderr=True).status(f"measuring the speed of this machine: {STEPS} training steps"):
                failure = execute(attempt, short)
            if failure is not None:
                note = f"note: the speed of this model could not be measured: {failure.message}"
                Console(stderr=True).print(note, highlight=False, soft_wrap=True, markup=False)
                return []
        return remember(short, run.path, is_short=True)


def _short(config: RunConfig, steps: int, effort: float) -> RunConfig:
    """Return the run with a few steps, on batches as large as MAX_STEP_FLOPS allows, and an evaluation of about this
    effort."""
    config = replace(config, ranks=1)
    if config.budget.samples:
        size = int(MAX_STEP_FLOPS[config.device] / max_train_flops(config, 1))
        size = min(max(size // config.batch_multiple, 1) * config.batch_multiple, config.budget.batch_size)
        config = replace(config, budget=BudgetConfig(samples=config.budget.samples, batch_size=size))
    return shortened(config, steps, effort)


def shortened(config: RunConfig, steps: int, effort: float) -> RunConfig:
    """Return the run with a few steps on its batches, and an evaluation of about this effort."""
    if config.budget.samples:
        size = config.budget.batch_size
        config = replace(config, budget=BudgetConfig(samples=steps * size, batch_size=size))
    options = replace(config.evaluation, alone=None)  # the weights that it measures are not there
    share = effort / evaluation_effort(replace(config, evaluation=options))

    def some(number: int) -> int:
        return min(max(int(share * number), FEWEST), number)

    reader, names = options.reader, ("num_items", "num_pairs", "num_other_images", "num_probe_scenes", "set_images")
    few: dict[str, Any] = {name: some(getattr(options, name)) for name in names}
    read: dict[str, Any] = {name: some(getattr(reader, name)) for name in ("samples", "pairs", "questions")}
    return replace(
        config,
        optimizer=OptimizerConfig(name=config.optimizer.name),  # a learning rate that diverges would end the run
        log=LogConfig(every_steps=1, tensorboard=False, picture_points=0),
        evaluation=replace(options, **few, reader=replace(reader, **read), curve_points=2, curve_pairs=FEWEST),
    )


class MachineClock:
    """Time of a run on this machine, from the nearest ones in the table of its cache folder.

    Args:
        measure: measures a run if nothing like it is in the table; None measures nothing.
    """

    def __init__(self, *, measure: Calibration | None = calibrate) -> None:
        self._measure = measure
        self._tables: dict[Path, list[RecordedTime]] = {}
        self._tried: set[str] = set()

    def __call__(self, config: Program) -> RunSeconds | None:
        """Return the time of a run, or None if it is not known and cannot be measured here: the model is too large, or
        none of ours."""
        folder = config.cache_dir
        if folder not in self._tables:
            self._tables[folder] = recorded(folder)
        own = shapes(config)
        found = self._nearest(config, own)
        if not isinstance(config, RunConfig):
            return None if found is None else RunSeconds(0.0, found["evaluation"][0], hardware=hardware(config.device))
        if found is None and self._measure is not None and self._tried.isdisjoint(own.values()):
            self._tried.update(own.values())
            self._tables[folder] += self._measure(config)
            found = self._nearest(config, own)
        if found is None:
            return None
        samples = config.budget.samples
        pairs = config.evaluation.curve_points * config.evaluation.curve_pairs * bool(samples)
        a_sample = found["training"][0] if samples else 0.0
        others = [one for part, (_, one) in found.items() if one.shape != own[part]]
        return RunSeconds(
            training=samples * a_sample,
            evaluation=found["evaluation"][0] + CURVE_SHARE * pairs * a_sample,
            estimated_from=frozenset(f"run {one.run}" if one.run else "a short run" for one in others),
            hardware=hardware(config.device),
        )

    def _nearest(self, config: Program, own: Mapping[Part, str]) -> dict[Part, tuple[float, RecordedTime]] | None:
        """Return the seconds of each part of a run and where they are from; None if one is not known."""
        table = self._tables[config.cache_dir]
        found = {part: near for part in own if (near := nearest(config, part, table))}
        return found if len(found) == len(own) else None
