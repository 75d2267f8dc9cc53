"""Time of a run on this machine, from an earlier run or from a short one that measures it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from aimv2.base.hardware import hardware
from aimv2.config.run_config import BudgetConfig, LogConfig, OptimizerConfig, RunConfig
from aimv2.config.serialization import to_dict
from aimv2.config.signature import signature
from aimv2.memory import choose
from aimv2.memory.machine import available_memory, total_memory
from aimv2.run.pricing.price import RunSeconds, max_train_flops
from aimv2.run.pricing.recorded import Times, keep_times, kept_times, run_times, shapes
from aimv2.runs.record import RunFolder

STEPS = 8
CURVE_POINTS = 3
# Training FLOPs. A batch is cut until a step takes no more than the first. A model whose samples take more than the
# second is not measured, since its evaluation would take minutes.
MAX_STEP_FLOPS = {"cpu": 1e12, "cuda": 1e14}
MAX_SAMPLE_FLOPS = {"cpu": 1e9, "cuda": 1e12}

Calibration = Callable[[RunConfig, Path | None], Times | None]


def calibrate(
    config: RunConfig,
    cache_dir: Path | None = None,
    *,
    memory: Callable[[], float] = available_memory,
) -> Times | None:
    """Train the run for a few steps, evaluate it, and return its times (``aimv2.run.pricing.recorded.run_times``).

    Args:
        cache_dir: folder of the rendered pictures; None renders them into a temporary folder.
        memory: bytes that are free now.

    Returns:
        None if the model is too large for this machine, or the short run fails.
    """
    if max_train_flops(config, 1) > MAX_SAMPLE_FLOPS[config.device]:
        return None
    short = _short(config)
    if config.device == "cpu" and choose(short, total_memory()).needed > memory():
        return None
    from aimv2.data.prepare import prepare
    from aimv2.run.execute import execute

    with TemporaryDirectory() as folder:
        config = replace(short, data=replace(short.data, cache_dir=str(cache_dir or Path(folder) / "cache")))
        prepare(config.data, config.model.vocab_size, show_progress=True)
        run = RunFolder(Path(folder), signature(config))
        attempt = run.acquire(config)
        assert attempt is not None, "the folder is new"
        with Console(stderr=True).status(
            f"measuring the speed of this model: {STEPS} training steps and an evaluation"
        ):
            failure = execute(attempt, config)
        if failure is not None:
            note = f"note: the speed of this model could not be measured: {failure.message}"
            Console(stderr=True).print(note, highlight=False, soft_wrap=True, markup=False)
            return None
        return run_times(run.path)


def _short(config: RunConfig) -> RunConfig:
    """Return the run with a few steps, on batches as large as MAX_STEP_FLOPS allows, and a short curve."""
    config = replace(config, ranks=1)
    if config.budget.samples:
        size = int(MAX_STEP_FLOPS[config.device] / max_train_flops(config, 1))
        size = min(max(size // config.batch_multiple, 1) * config.batch_multiple, config.budget.batch_size)
        config = replace(config, budget=BudgetConfig(samples=STEPS * size, batch_size=size))
    return replace(
        config,
        optimizer=OptimizerConfig(name=config.optimizer.name),  # a learning rate that diverges would end the run
        log=LogConfig(every_steps=1),
        evaluation=replace(config.evaluation, curve_points=min(config.evaluation.curve_points, CURVE_POINTS)),
    )


class MachineClock:
    """Time of a run on this machine: that of the last run of its shape in the cache folder, or of a calibration run."""

    def __init__(self, *, keep: bool = False, measure: Calibration | None = calibrate) -> None:
        """
        Args:
            keep: write to the run's cache folder; otherwise a calibration run leaves nothing behind.
            measure: does a calibration run; None does none.
        """
        self._keep = keep
        self._measure = measure
        self._measured: dict[str, Times | None] = {}

    def __call__(self, config: RunConfig) -> RunSeconds | None:
        """Return the time of a run, or None if it is not known and the model is too large to train here."""
        names = shapes(to_dict(config), hardware(config.device))
        times = [found for name in names if (found := self._measurement(config, name))]
        if len(times) < len(names):
            return None
        evaluation_seconds = times[0]["evaluation_seconds"]
        if not config.budget.samples:
            return RunSeconds(0.0, evaluation_seconds)
        curve_pairs = config.evaluation.curve_points * config.evaluation.curve_pairs
        curve_seconds = curve_pairs * times[1].get("curve_seconds_per_pair", 0.0)
        return RunSeconds(config.budget.samples / times[1]["images_per_second"], curve_seconds + evaluation_seconds)

    def _measurement(self, config: RunConfig, shape: str) -> Times | None:
        if shape not in self._measured:
            self._measured[shape] = kept_times(config, shape)
            if self._measured[shape] is None and self._measure is not None:
                self._calibrate(config, self._measure)
        return self._measured[shape]

    def _calibrate(self, config: RunConfig, measure: Calibration) -> None:
        times = measure(config, Path(config.data.cache_dir) if self._keep else None)
        for shape in shapes(to_dict(config), hardware(config.device)):
            self._measured[shape] = self._measured.get(shape) or kept_times(config, shape) or times
            if self._keep and self._measured[shape] is times is not None:
                keep_times(config, shape, times)
