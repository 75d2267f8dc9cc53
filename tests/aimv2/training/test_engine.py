"""Micro-batches, ranks and shards against one backward pass of the whole batch."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.utils import counters
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.tensor import DTensor

from aimv2.data.batches.batch import Share
from aimv2.data.batches.training import TrainBatches
from aimv2.definitions.objectives import BUILT_IN, objective
from aimv2.memory.setup import setup_of
from aimv2.objectives.build import build, implementation_of
from aimv2.training import engine as engine_module
from aimv2.training.engine import Engine
from aimv2.training.world import ALONE
from tests.helpers.marks import everyday
from tests.helpers.native import at_native, batch_of_area
from tests.helpers.ranks import on_ranks
from tests.helpers.training import changed, losses_of

VARIANTS = [
    *({"objective.name": name} for name in BUILT_IN),
    {"objective.pixel_patches": "image"},
    {"objective.pixel_patches": "image_mean", "prefix.full_attention": 0.5},
    {"objective.text_tokens": "caption"},
    {"model.decoder.sharing": "separate"},
    {"model.decoder.order": "text_first"},
    {"objective.name": "clip", "start.frozen": ["encoder"]},
]


def engine_of(config, world=ALONE):
    """Return the engine of a network in float64, in which rounding is far below the tolerance."""
    module = implementation_of(objective(config.objective.name))(build(config).double(), config)
    return Engine(module, config, setup_of(config), world)


def gradients_of(engine):
    found = {name: value.grad for name, value in engine.objective.named_parameters() if value.grad is not None}
    return {name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in found.items()}


def enlarged(batch, config, times=1):
    """Return eight times so many images in float64, of which one in eight has no patch to predict."""
    rows = torch.tensor([0, 1, 2, 3, 4, 5, 3, 1]).repeat(times)
    image = batch.image[rows].double() + torch.arange(8.0 * times)[:, None, None, None] / 10
    prefix_len_B = torch.tensor([1, 3, 8, 16, 14, 15, 2, 9]).repeat(times)
    supervised_N = (batch.token_BT[rows] != 1).flatten().nonzero().squeeze(1)
    return batch.of(image, batch.token_BT[rows], prefix_len_B, supervised_N, batch.text_len_B[rows], config)


@pytest.fixture
def large_batch(tiny, batch):
    return enlarged(batch, tiny)


@pytest.mark.parametrize("size", everyday([3], [1, 2, 3, 4, 8]))
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_micro_batches_have_the_losses_and_gradients_of_the_batch(tiny, large_batch, changes, size):
    config = changed(tiny, changes)
    config = replace(config, micro_batch=size, activation_checkpointing=size == 3)
    assert_as_one_pass(engine_of(config), config, large_batch)


def assert_as_one_pass(engine, config, batch):
    """Check losses and gradients of an engine against one backward pass of the whole batch, of eager blocks."""
    model = build(config).double()
    total, terms = losses_of(model, batch, config)
    total.backward()
    found = engine.backward(engine.micro_batches(batch))
    assert found.keys() == terms.keys()
    for name, term in terms.items():
        torch.testing.assert_close(found[name], term.detach(), rtol=1e-6, atol=1e-7)
    gradients = gradients_of(engine)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(gradients[f"model.{name}"], weight.grad, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize(("key", "term"), [("pixel_patches", "pixel_loss"), ("text_tokens", "text_loss")])
def test_mean_of_each_rank_is_averaged_over_ranks_as_in_the_released_code(tiny, large_batch, key, term, size):
    """Oracle: each rank's share as a batch of its own, in which the mean is over the share's patches or tokens."""
    config, means, found = changed(tiny, {f"objective.{key}": "rank", "micro_batch": size}), [], []
    for rows in (slice(0, 4), slice(4, 8)):
        tokens = large_batch.token_BT[rows]
        supervised = (tokens != 1).flatten().nonzero().squeeze(1)
        lengths, prefixes = large_batch.text_len_B[rows], large_batch.prefix_len_B[rows]
        alone = large_batch.of(large_batch.image[rows], tokens, prefixes, supervised, lengths, tiny)
        means.append(losses_of(build(tiny).double(), alone, tiny).terms[term].item())
        share = alone._replace(tally=large_batch.tally, share=Share(rows.start, 2))
        engine = engine_of(config)
        found.append(engine.backward(engine.micro_batches(share))[term].item())
    assert found == pytest.approx(means)
    whole = losses_of(build(tiny).double(), large_batch, tiny).terms[term].item()
    assert sum(means) / 2 != pytest.approx(whole), "ranks with fewer patches or tokens weigh as much as others"


def test_gradient_balance_needs_two_terms(tiny, large_batch):
    without = large_batch._replace(tally=replace(large_batch.tally, num_scored=0))
    assert engine_of(tiny).gradient_balance([without]) == {}


SETUPS = [
    {"parallel": parallel, "micro_batch": size, "activation_checkpointing": size == 1}
    for parallel in ("ddp", "fsdp")
    for size in (4, 2, 1)  # of the four images of a rank
]
HSDP = [{"parallel": "hsdp", "ranks_per_node": 2, "micro_batch": size} for size in (2, 1)]  # of two on two machines
EAGER = [changes | setup for changes in VARIANTS for setup in SETUPS]
COMPILED = [VARIANTS[0] | {"parallel": parallel, "micro_batch": 4, "compile": True} for parallel in ("ddp", "fsdp")]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("ranks", "cases"),
    [
        pytest.param(2, EAGER, id="2"),
        pytest.param(4, [VARIANTS[0] | setup for setup in SETUPS], id="4"),
        pytest.param(4, [changes | setup for changes in VARIANTS for setup in HSDP], id="2 machines of 2"),
        pytest.param(2, COMPILED, id="2 compiled"),
    ],
)
def test_ranks_have_the_losses_and_gradients_of_the_batch(tiny, batch, ranks, cases, tmp_path):
    cases = [changed(tiny, case | {"ranks": ranks}) for case in cases]
    assert_ranks_match(cases, enlarged(batch, tiny, ranks // 2), ranks, tmp_path)


def test_ranks_average_gradients_once_for_all_micro_batches(tiny, large_batch, tmp_path):
    config = replace(tiny, ranks=2, parallel="ddp", micro_batch=1)
    assert on_ranks(2, tmp_path, averages_by_bucket, config, large_batch) == {"bucket 0": 1}


def test_shards_are_on_the_device_of_the_run(tiny, tmp_path):
    """Not on the accelerator that FSDP2 takes by itself where there is one."""
    config = replace(tiny, ranks=2, parallel="fsdp")
    assert on_ranks(2, tmp_path, devices_of_shards, config) == {"cpu"}


def devices_of_shards(world, config):
    """Return the kinds of devices that FSDP2 is given."""
    found, original = set(), engine_module.fully_shard

    def recorded(module, mesh=None, **given):
        found.add(mesh and mesh.device_type)
        return original(module, mesh=mesh, **given)

    engine_module.fully_shard = recorded
    engine_of(config, world)
    return found


@pytest.mark.parametrize("objective_name", BUILT_IN)
def test_gradients_have_the_strides_of_their_parameters(tiny, large_batch, objective_name):
    """From a single image too, with which nothing is summed over images. Sides of 1 may have any stride otherwise."""
    engine = engine_of(changed(tiny, {"objective.name": objective_name, "micro_batch": 1}))
    parameters = {name: value for name, value in engine.objective.named_parameters() if 1 in value.shape}
    strides = {}
    for name, parameter in parameters.items():
        parameter.register_hook(lambda gradient, name=name: strides.update({name: gradient.stride()}))
    engine.backward(engine.micro_batches(large_batch))
    assert strides == {name: parameter.stride() for name, parameter in parameters.items()}


def averages_by_bucket(world, config, batch):
    """Return how often DDP averages each bucket of gradients in the backward passes of a batch."""
    found = Counter()

    def count(state, bucket):
        found[f"bucket {bucket.index()}"] += 1
        return allreduce_hook(dist.group.WORLD, bucket)

    engine = engine_of(config, world)
    engine._module.register_comm_hook(None, count)
    engine.backward(engine.micro_batches(share_of(batch, world.rank, world.size)))
    return dict(found)


@pytest.fixture(scope="module")
def native(tiny, with_samples):
    return at_native(with_samples(tiny, 320))


@pytest.mark.exhaustive
def test_ranks_have_the_losses_and_gradients_of_a_native_batch(native, pairs, tmp_path):
    batch = batch_of_area(native, pairs, 16)
    cases = [replace(native, ranks=2, **setup) for setup in SETUPS]
    assert_ranks_match(cases, batch._replace(image=batch.image.double()), 2, tmp_path)


@pytest.mark.parametrize(("area", "num_parts"), [(8, 4), (16, 4), (32, 4), (64, 2)])
def test_native_micro_batches_have_the_losses_of_the_batch_and_about_as_many_patches(native, pairs, area, num_parts):
    batch = batch_of_area(native, pairs, area)
    batch = batch._replace(image=batch.image.double())
    engine = engine_of(replace(native, micro_batch=2))
    assert len(engine.micro_batches(batch)) == num_parts
    assert_as_one_pass(engine, native, batch)


def assert_ranks_match(cases, batch, ranks, folder):
    """Check losses and gradients of a batch that several processes compute."""
    found = on_ranks(ranks, folder, computed_by, cases, batch)
    for config, (terms, gradients, norm) in zip(cases, found, strict=True):
        engine = engine_of(replace(config, ranks=1, micro_batch="auto", compile=False))
        expected = engine.backward(engine.micro_batches(batch))
        case = f"{config.objective.name} {config.parallel} {config.micro_batch}"
        for name, term in expected.items():
            torch.testing.assert_close(terms[name], term, rtol=1e-6, atol=1e-7, msg=f"{case}: {name}")
        expected_gradients = gradients_of(engine)
        assert gradients.keys() == expected_gradients.keys(), case
        for name, gradient in expected_gradients.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-7, msg=f"{case}: {name}")
        torch.testing.assert_close(norm, engine.clip_gradients(), rtol=1e-6, atol=1e-7, msg=case)


def share_of(batch, rank, ranks):
    size = len(batch.image) // ranks
    return batch.split(size, has_padding=True)[rank]._replace(share=Share(rank * size, ranks))


def computed_by(world, cases, batch):
    """Return losses, gradients and norms of each case."""
    found, share = [], share_of(batch, world.rank, world.size)
    for config in cases:
        engine = engine_of(config, world)
        before = counters["stats"]["unique_graphs"]
        terms = {name: world.mean(term) for name, term in engine.backward(engine.micro_batches(share)).items()}
        assert (counters["stats"]["unique_graphs"] > before) is (config.compile is True)
        gradients = gradients_of(engine)
        found.append((terms, {name: grad.clone() for name, grad in gradients.items()}, engine.clip_gradients()))
        del engine
    return found


@pytest.mark.exhaustive  # a compiler without its cache takes half a minute
@pytest.mark.parametrize("saves_inputs", [False, True])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_compiled_blocks_have_the_losses_and_gradients_of_eager_ones(tiny, large_batch, changes, saves_inputs):
    config = changed(tiny, changes | {"activation_checkpointing": saves_inputs})
    assert_as_one_pass(engine_of(replace(config, compile=True)), config, large_batch)


@pytest.mark.exhaustive
@pytest.mark.parametrize("saves_inputs", [False, True])
def test_native_sizes_are_compiled_a_few_times(tiny, pairs, saves_inputs, tracing):
    values = {"model.decoder.sharing": "separate", "micro_batch": 2, "activation_checkpointing": saves_inputs}
    config = at_native(tiny, compile=True, **values, **{"budget.samples": 192})
    model = build(config)
    engine = Engine(implementation_of(objective("aimv2"))(model, config), config, setup_of(config))
    before = counters["stats"]["unique_graphs"]
    sizes = set()
    for step in range(24):
        batch = TrainBatches(config, pairs.train, pairs.tokenizer)[step]
        sizes.add(batch.num_patches)
        engine.backward(engine.micro_batches(batch))
    assert len(sizes) == 4
    assert 0 < counters["stats"]["unique_graphs"] - before <= 6, "three stacks, for several images and for one"


def test_gradient_balance_matches_separate_backward_passes(tiny, large_batch):
    """Oracle: each loss's own backward pass."""
    model = build(tiny).double()
    gradients = {}
    for name in ("pixel_loss", "text_loss"):
        model.zero_grad()
        losses_of(model, large_batch, tiny).terms[name].backward()
        gradients[name] = torch.cat([weight.grad.flatten() for weight in model.decoder.blocks.parameters()])
    one, other = gradients.values()
    for size in (3, 8):
        engine = engine_of(replace(tiny, micro_batch=size, activation_checkpointing=size == 3))
        balance = engine.gradient_balance(engine.micro_batches(large_batch))
        for name, gradient in gradients.items():
            torch.testing.assert_close(balance[f"{name}_gradient"], gradient.norm())
        torch.testing.assert_close(balance["gradient_cosine"], (one @ other) / one.norm() / other.norm())


@pytest.mark.parametrize("saves_inputs", [False, True])
def test_gradient_balance_is_that_of_eager_blocks(tiny, large_batch, saves_inputs):
    config = replace(tiny, activation_checkpointing=saves_inputs)
    engines = [engine_of(replace(config, compile=value)) for value in (False, True)]
    expected, found = (engine.gradient_balance(engine.micro_batches(large_batch)) for engine in engines)
    assert found == expected
