"""AdamW with fully decoupled weight decay, and the learning-rate schedule, as in the paper."""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from fvcore.common.param_scheduler import CompositeParamScheduler, CosineParamScheduler, LinearParamScheduler
from torch import nn
from torch.distributed.tensor import DTensor

from aimv2.config.training_config import OptimizerConfig

# ml-l3m ``wd_exclude``: biases, norms, positions, BOS and CLS vectors, logit scale; embeddings and heads are decayed.
# The mask vector and the pooling query, which ml-l3m lacks, are learned vectors like BOS and CLS.
NOT_DECAYED = ("bias", "norm", "pos_embed", "bos", "mask_token", "query", "logit_scale")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer of a run for all parameters that are trained, in groups with and without weight decay.

    The paper's step multiplies a weight by 1 - lambda x lr / peak_lr, so that weight decay follows the shape of the
    schedule, not the size of the learning rate. torch's multiplies it by 1 - weight_decay x lr, so weight_decay is
    lambda / peak_lr: 0.1 for ViT-L. Passing 1e-4 itself would decay a thousand times too little.

    Source: paper Table A1, ml-l3m ``adamw_lh.py``.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = []
    for decays, is_shard in product((True, False), (True, False)):  # torch mixes no shards with other tensors
        of_group = [p for name, p in named if is_decayed(name) is decays and isinstance(p, DTensor) is is_shard]
        if of_group:
            groups.append({"params": of_group, "weight_decay": decays * config.weight_decay / config.peak_lr})
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.peak_lr, betas=betas, eps=config.eps, fused=True)


def is_decayed(name: str) -> bool:
    """True if weight decay applies to the parameter of this dotted name."""
    return not any(word in part for part in name.split(".") for word in NOT_DECAYED)


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
