"""One short run that shows how fast this machine trains and evaluates a model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from ablations.budget import flops_per_sample
from aimv2.config.run_config import BudgetConfig, LogConfig, OptimizerConfig, RunConfig
from aimv2.config.signature import signature
from aimv2.runs.record import RunFolder
from sweeps.machine.room import available_memory, memory_bytes
from sweeps.pricing.recorded import Times, run_times

STEPS = 8
CURVE_POINTS = 3
# Training FLOPs. A batch is cut until a step takes no more than the first. A model whose samples take more than the
# second is not measured, since its evaluation would take minutes.
MAX_STEP_FLOPS = {"cpu": 1e12, "cuda": 1e14}
MAX_SAMPLE_FLOPS = {"cpu": 1e9, "cuda": 1e12}


def calibrate(
    config: RunConfig, cache_dir: Path | None = None, *, memory: Callable[[], float] = available_memory
) -> Times | None:
    """Train the run for a few steps, evaluate it, and return its times (``sweeps.pricing.recorded.run_times``).

    Args:
        cache_dir: folder of the rendered pictures; None renders them into a temporary folder.
        memory: bytes that are free now.

    Returns:
        None if the model is too large for this machine, or the short run fails.
    """
    if flops_per_sample(config) > MAX_SAMPLE_FLOPS[config.device]:
        return None
    short = _short(config)
    if config.device == "cpu" and memory_bytes(short) > memory():
        return None
    from aimv2.data.pairs import prepare
    from aimv2.execute import execute

    with TemporaryDirectory() as folder:
        config = replace(short, data=replace(short.data, cache_dir=str(cache_dir or Path(folder) / "cache")))
        prepare(config.data, config.model, show_progress=True)
        run = RunFolder(Path(folder), signature(config))
        attempt = run.acquire(config)
        assert attempt is not None, "the folder is new"
        with Console().status("measuring the speed of this model, once per machine and shape"):
            failure = execute(attempt, config)
        return run_times(run.path) if failure is None else None


def _short(config: RunConfig) -> RunConfig:
    """Return the run with a few steps, on batches as large as MAX_STEP_FLOPS allows, and a short curve."""
    if config.budget.samples:
        size = int(MAX_STEP_FLOPS[config.device] / flops_per_sample(config))
        size = min(max(size, 1), config.budget.batch_size)
        config = replace(config, budget=BudgetConfig(samples=STEPS * size, batch_size=size))
    return replace(
        config,
        optimizer=OptimizerConfig(),  # a learning rate that diverges would end the run
        log=LogConfig(every_steps=1),
        evaluation=replace(config.evaluation, curve_points=min(config.evaluation.curve_points, CURVE_POINTS)),
        ranks=1,
    )
