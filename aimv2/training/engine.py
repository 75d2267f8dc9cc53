"""Forward and backward passes of whole batches, in micro-batches and on several ranks.

The samples, losses and gradients of a batch do not depend on the ranks, micro-batches or shards that compute them, but
for rounding.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from aimv2.config.native import micro_batch_at
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.memory.training import Setup
from aimv2.model.layers import Block
from aimv2.model.network import Network
from aimv2.objectives.base import Comparing, Embeddings, Implementation, Losses
from aimv2.objectives.build import build_empty
from aimv2.training.device import autocast, compiles
from aimv2.training.world import ALONE, World


class Engine:
    """An objective on the device or devices that train it.

    Of several ranks, each holds the whole weights (``ddp``) or a shard of them (``fsdp``, ``hsdp``). Rank 0's weights
    are copied to all, because random draws may differ between hosts in the last bit.
    """

    def __init__(self, objective: Implementation[Any], config: RunConfig, setup: Setup, world: World = ALONE) -> None:
        self.objective, self.setup = objective, setup
        self._config, self._world = config, world
        self._device = torch.device(config.device)
        self._is_sharded = world.size > 1 and setup.parallel != "ddp"
        self._module: nn.Module = objective
        self._replicated: list[nn.Parameter] = []
        self._is_compiled = compiles(config)
        if self._is_compiled:
            torch.compiler.reset()  # what earlier runs of this process have compiled counts towards torch's limit
        self._set_compiled(self._is_compiled)
        for module in objective.modules():
            if isinstance(module, Block):
                module.saves_input = setup.activation_checkpointing
        if self._is_sharded:
            world.equalise(objective)
            self._replicated = shard(objective, _mesh(config, setup, world), config.precision)
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

    def micro_batches(self, batch: Batch) -> list[Batch]:
        """Cut a batch, or this rank's share of it, into micro-batches, on the CPU."""
        size = micro_batch_at(batch.num_patches, self._config, self.setup.micro_batch)
        return batch.split(size, has_padding=self.objective.reads_padding)

    def backward(self, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """Add the gradients of a batch to those of the parameters."""
        terms: dict[str, Tensor] = {}
        whole = self._whole(parts)
        for number, part in enumerate(parts, start=1):
            with self._syncing(number == len(parts)):
                losses = self._losses(part, *whole)
                losses.total.backward()
            for name, term in losses.terms.items():
                terms[name] = terms.get(name, 0) + term.detach()
        self._average_replicated()
        return terms

    def _average_replicated(self) -> None:
        """Average the gradients of the parameters that FSDP2 leaves whole, in one exchange."""
        gradients = [parameter.grad for parameter in self._replicated if parameter.grad is not None]
        if gradients:
            mean = self._world.mean(torch.cat([gradient.flatten() for gradient in gradients]))
            sizes = [gradient.numel() for gradient in gradients]
            for gradient, of_all in zip(gradients, mean.split(sizes), strict=True):
                gradient.copy_(of_all.view_as(gradient))

    def gradient_balance(self, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """Return the norm of each term's gradient on the shared parameters, and the cosine between the two gradients.

        Empty unless there are two terms and shared parameters, of which each rank holds the whole.
        """
        shared = self.objective.shared_parameters()
        if not shared or self._is_sharded:
            return {}
        sums: dict[str, Tensor] = {}
        for part in parts:
            for name, gradient in self._gradients_by_term(part, shared).items():
                sums[name] = sums.get(name, 0) + gradient
        if len(sums) != 2:
            return {}
        first, second = (self._world.mean(gradient) for gradient in sums.values())
        norms = {f"{name}_gradient": gradient.norm() for name, gradient in zip(sums, (first, second), strict=True)}
        return norms | {"gradient_cosine": torch.cosine_similarity(first, second, dim=0)}

    def _gradients_by_term(self, part: Batch, shared: list[nn.Parameter]) -> dict[str, Tensor]:
        """Return each term's gradient as one vector. On return, the activations of the micro-batch are released."""
        self._set_compiled(False)  # compiled blocks overwrite what they have saved, so they have one backward pass
        with self._syncing(False):
            terms = self._losses(part).terms
        by_term = {}
        for name, term in terms.items():
            gradients = torch.autograd.grad(term, shared, retain_graph=True)
            by_term[name] = torch.cat([gradient.flatten() for gradient in gradients])
        self._set_compiled(self._is_compiled)
        return by_term

    def _set_compiled(self, is_compiled: bool) -> None:
        """Compute blocks compiled, or eagerly."""
        for module in self.objective.modules():
            if isinstance(module, Block):
                module.is_compiled, module.is_dynamic = is_compiled, bool(self._config.native.areas)

    def clip_gradients(self) -> Tensor:
        """Scale the gradients down to ``optimizer.clip_norm`` if their norm is larger, and return that norm."""
        most = self._config.optimizer.clip_norm
        if not self._is_sharded:
            return nn.utils.clip_grad_norm_(self._parameters, most)
        kinds = [[p for p in self._parameters if isinstance(p, DTensor) is is_shard] for is_shard in (True, False)]
        norms = [nn.utils.get_total_norm(p.grad for p in kind if p.grad is not None) for kind in kinds]
        whole = (norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms)
        norm: Tensor = torch.stack([of_kind.to(self._device) for of_kind in whole]).norm()
        for kind in kinds:  # torch mixes no shards with other tensors
            nn.utils.clip_grads_with_norm_(kind, most, norm)
        return norm

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

    def _losses(self, part: Batch, *whole: Callable[[Embeddings], Embeddings]) -> Losses:
        with autocast(self._config):
            losses: Losses = self._module(part.to(self._device), *whole)
        return losses

    def _whole(self, parts: Sequence[Batch]) -> list[Callable[[Embeddings], Embeddings]]:
        """Return the function from the embeddings of a part to those of the whole batch.

        Several micro-batches are embedded before the first backward pass, and so twice.
        """
        if not isinstance(self.objective, Comparing) or (len(parts) == 1 and self._world.size == 1):
            return []
        if len(parts) == 1:
            return [self._gathered]
        with torch.no_grad(), autocast(self._config):
            embeddings = [self.objective.embed(part.to(self._device)) for part in parts]
        known = self._gathered(Embeddings(*map(torch.cat, zip(*embeddings, strict=True))))
        return [lambda own: known]

    def _gathered(self, own: Embeddings) -> Embeddings:
        """Return the embeddings of all ranks, without gradients."""
        return Embeddings(*(self._world.concatenate(vector_BS.detach()) for vector_BS in own))

    def _syncing(self, is_last: bool) -> AbstractContextManager[None]:
        """Average gradients over the ranks in the backward pass of the last micro-batch only.

        The ranks that hold the shards of one copy average them in every one, because FSDP2 would hold the whole
        gradients until it does; nodes with a copy each do so in the last.
        """
        if isinstance(self._module, DistributedDataParallel) and not is_last:
            return self._module.no_sync()
        if isinstance(self.objective, FSDPModule):
            self.objective.set_requires_all_reduce(is_last)
        return nullcontext()


def shard(objective: Implementation[Any], mesh: DeviceMesh, precision: str) -> list[nn.Parameter]:
    """Spread the parameters over the ranks in place, block by block (FSDP2).

    Under autocast the matrices of blocks are sent in bfloat16, the precision of their products, and gradients in
    float32. What is outside of blocks is sent in float32.

    Returns:
        the parameters that every rank holds whole: scalars, which FSDP2 refuses, and the vectors of blocks, which stay
        float32 and are small.
    """
    whole = {parameter for parameter in objective.parameters() if not parameter.ndim}
    policy = MixedPrecisionPolicy()
    if precision == "bfloat16":
        policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in objective.modules():
        if isinstance(module, Block):
            vectors = {parameter for parameter in module.parameters() if parameter.ndim == 1}
            fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=vectors)
            whole |= vectors
    fully_shard(objective, mesh=mesh, ignored_params=whole)
    if isinstance(objective, Comparing):
        register_fsdp_forward_method(objective, "embed")
    return [parameter for parameter in objective.parameters() if parameter in whole]


def _mesh(config: RunConfig, setup: Setup, world: World) -> DeviceMesh:
    """Return the ranks in a row, or for ``hsdp`` in a row for each node."""
    per_node = config.ranks_per_node
    if setup.parallel == "hsdp" and world.size > per_node:
        return init_device_mesh(
            config.device, (world.size // per_node, per_node), mesh_dim_names=("replicate", "shard")
        )
    return init_device_mesh(config.device, (world.size,))


def _may_score_nothing(config: RunConfig) -> bool:
    """True if a batch may leave the pixel head without a gradient, because every prefix is a whole image."""
    return bool(config.prefix.pmf(config.model.num_patches)[-1])
