"""Forward and backward passes of whole batches, in micro-batches and on several ranks.

The samples, losses and gradients of a batch do not depend on the ranks, micro-batches or shards that compute them, but
for rounding.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from aimv2.config.native import micro_batch_at
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.memory import Setup
from aimv2.model.encoder import Encoder
from aimv2.model.layers import Block, Stack
from aimv2.model.network import Network, build_empty
from aimv2.objectives.base import Comparing, Embeddings, Implementation, Losses
from aimv2.training.device import autocast, compiles
from aimv2.training.world import ALONE, World


class Engine:
    """An objective on the device or devices that train it.

    Of several ranks, each holds the whole weights (``ddp``) or a shard of them (``fsdp``). Rank 0's weights are copied
    to all, because random draws may differ between hosts in the last bit.

    Args:
        objective: on its device. ``fsdp`` changes its parameters in place, so the optimizer is built afterwards.
    """

    def __init__(self, objective: Implementation[Any], config: RunConfig, setup: Setup, world: World = ALONE) -> None:
        self.objective, self.setup = objective, setup
        self._config, self._world = config, world
        self._device = torch.device(config.device)
        self._is_sharded = world.size > 1 and setup.parallel == "fsdp"
        self._is_compiled = compiles(config)
        self._module: nn.Module = objective
        self._scalars: list[nn.Parameter] = []
        if self._is_compiled:
            torch.compiler.reset()  # what earlier runs of this process have compiled counts towards torch's limit
        self._set_compiled(self._is_compiled)
        for module in objective.modules():
            if isinstance(module, Stack):
                module.saves_inputs = setup.activation_checkpointing
        if self._is_sharded:
            world.equalise(objective)
            self._scalars = shard(objective, init_device_mesh(self._device.type, (world.size,)))
        elif world.size > 1:
            # Otherwise DDP fills its buckets in another order after its first step, in which three or more ranks round
            # sums differently, so that a run that resumes is not bitwise equal.
            keeps_buckets = config.device == "cpu" and world.size > 2
            self._module = DistributedDataParallel(
                objective,
                gradient_as_bucket_view=True,
                find_unused_parameters=keeps_buckets or _may_score_nothing(config),
            )
        self._parameters = list(objective.parameters())  # after FSDP2 has replaced some; walking all modules takes long

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Add the gradients of a batch to those of the parameters.

        Args:
            batch: the whole batch or this rank's share, on the CPU, with the counts of the whole.

        Returns:
            the terms of the loss, detached; their mean over the ranks is that of the whole batch.
        """
        terms: dict[str, Tensor] = {}
        parts = self._parts(batch)
        whole = self._whole(parts)
        for number, part in enumerate(parts, start=1):
            with self._syncing(number == len(parts)):
                losses = self._losses(part, *whole)
                losses.total.backward()
            for name, term in losses.terms.items():
                terms[name] = terms.get(name, 0) + term.detach()
        for scalar in self._scalars:
            if scalar.grad is not None:
                scalar.grad = self._world.mean(scalar.grad)
        return terms

    def gradient_balance(self, batch: Batch) -> dict[str, Tensor]:
        """Return the norm of each term's gradient on the shared parameters, and the cosine between the two gradients.

        Empty unless there are two terms and shared parameters, of which each rank holds the whole.
        """
        shared = self.objective.shared_parameters()
        if not shared or self._is_sharded:
            return {}
        sums: dict[str, Tensor] = {}
        for part in self._parts(batch):
            for name, gradient in self._gradients_by_term(part, shared).items():
                sums[name] = sums.get(name, 0) + gradient
        if len(sums) != 2:
            return {}
        one, other = (self._world.mean(gradient) for gradient in sums.values())
        norms = {f"{name}_gradient": gradient.norm() for name, gradient in zip(sums, (one, other), strict=True)}
        return norms | {"gradient_cosine": torch.cosine_similarity(one, other, dim=0)}

    def _gradients_by_term(self, part: Batch, shared: list[nn.Parameter]) -> dict[str, Tensor]:
        """Return each term's gradient as one vector. On return, the activations of the micro-batch are released."""
        self._set_compiled(False)  # compiled blocks overwrite what they have saved, so they have one backward pass
        with self._syncing(False):
            terms = self._losses(part).terms
        found = {}
        for name, term in terms.items():
            gradients = torch.autograd.grad(term, shared, retain_graph=True)
            found[name] = torch.cat([gradient.flatten() for gradient in gradients])
        self._set_compiled(self._is_compiled)
        return found

    def _set_compiled(self, is_compiled: bool) -> None:
        """Compute blocks compiled, and prefix attention with the run's kernel, or everything eagerly."""
        for module in self.objective.modules():
            if isinstance(module, Block):
                module.is_compiled = is_compiled
            if isinstance(module, Encoder):
                module.uses_flex = is_compiled and self._config.attention_kernel == "flex"

    def clip_gradients(self) -> Tensor:
        """Scale the gradients down to ``optimizer.clip_norm`` if their norm is larger, and return that norm."""
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.optimizer.clip_norm)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def whole_network(self) -> Network:
        """Return the network with whole weights; all ranks call it, and only rank 0 may use it.

        It is the one that trains, unless its weights are sharded.
        """
        model: Network = self.objective.model
        if not self._is_sharded:
            return model
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(model, options=options)
        if not weights:  # of the other ranks
            return model
        whole = build_empty(self._config)
        whole.load_state_dict(weights, assign=True)
        return whole.to(self._config.device)

    def _parts(self, batch: Batch) -> list[Batch]:
        size = self.setup.micro_batch
        if batch.grid_B2 is not None:
            size = micro_batch_at(batch.num_patches, self._config, size)
        return batch.split(size, has_padding=self.objective.reads_padding)

    def _losses(self, part: Batch, *whole: Callable[[Embeddings], Embeddings]) -> Losses:
        with autocast(self._config):
            losses: Losses = self._module(part.to(self._device), *whole)
        return losses

    def _whole(self, parts: list[Batch]) -> list[Callable[[Embeddings], Embeddings]]:
        """Return the function from the embeddings of a part to those of the whole batch.

        Several micro-batches are embedded before the first backward pass, and so twice.

        Returns:
            empty if samples are not compared, or the part is the whole batch.
        """
        if not isinstance(self.objective, Comparing) or (len(parts) == 1 and self._world.size == 1):
            return []
        if len(parts) == 1:
            return [self._gathered]
        with torch.no_grad(), autocast(self._config):
            found = [self.objective.embed(part.to(self._device)) for part in parts]
        known = self._gathered(Embeddings(*map(torch.cat, zip(*found, strict=True))))
        return [lambda own: known]

    def _gathered(self, own: Embeddings) -> Embeddings:
        """Return the embeddings of all ranks, without gradients."""
        return Embeddings(*(self._world.concatenate(vector_BS.detach()) for vector_BS in own))

    def _syncing(self, is_last: bool) -> AbstractContextManager[None]:
        """Average gradients over the ranks in the backward pass of the last micro-batch only.

        Shards are averaged in every one, because FSDP2 would hold the whole gradients until it averages them.
        """
        if isinstance(self._module, DistributedDataParallel) and not is_last:
            return self._module.no_sync()
        return nullcontext()


def shard(objective: Implementation[Any], mesh: DeviceMesh) -> list[nn.Parameter]:
    """Spread the parameters over the ranks in place, block by block (FSDP2).

    Args:
        mesh: the devices of the ranks. Without it, FSDP2 would move a run on the CPU to a GPU that the machine has.

    Returns:
        the parameters that are still whole: scalars, which FSDP2 refuses.
    """
    scalars = [parameter for parameter in objective.parameters() if not parameter.ndim]
    for module in objective.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(objective, mesh=mesh, ignored_params=set(scalars))
    if isinstance(objective, Comparing):
        register_fsdp_forward_method(objective, "embed")
    return scalars


def _may_score_nothing(config: RunConfig) -> bool:
    """True if a batch may leave the pixel head without a gradient, because every prefix is a whole image."""
    return bool(config.prefix.pmf(config.model.num_patches)[-1])
