"""The learning-rate schedule."""

from collections.abc import Callable

from fvcore.common.param_scheduler import CompositeParamScheduler, CosineParamScheduler, LinearParamScheduler

from aimv2.config.run_config import OptimizerConfig


def learning_rate(config: OptimizerConfig) -> Callable[[float], float]:
    """Return the schedule, linear warm-up then cosine: the share of steps done, in [0, 1), to the next step's rate.

    Source: paper Table A1; start value and composition as in ml-l3m, which uses the same schedulers.
    """
    schedule: Callable[[float], float] = CompositeParamScheduler(
        schedulers=[
            LinearParamScheduler(config.start_lr, config.peak_lr),
            CosineParamScheduler(config.peak_lr, config.min_lr),
        ],
        lengths=[config.warmup_fraction, 1 - config.warmup_fraction],
        interval_scaling=["rescaled", "rescaled"],
    )
    return schedule
