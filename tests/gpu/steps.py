"""Steps on a GPU, and what torch's allocator holds in them."""

import gc

import torch

from aimv2.config.program import replaced
from aimv2.config.recipes.scales import SCALES
from aimv2.data.batches.batch import Batch
from aimv2.definitions.objectives import objective
from aimv2.memory.setup import setup_of
from aimv2.memory.training import predict
from aimv2.objectives.build import build_empty, implementation_of
from aimv2.request.resolve import with_attention
from aimv2.training.engine import Engine
from aimv2.training.optimizer import build_optimizer

# A scale, the images of a micro-batch, micro-batches, and other values.
MEMORY = [
    ("tiny", 64, 1, {}),
    ("tiny", 64, 2, {"activation_checkpointing": True}),
    ("vit_l", 16, 1, {}),
    ("vit_l", 16, 1, {"precision": "bfloat16", "residual": "bfloat16"}),
    ("vit_l", 16, 2, {"activation_checkpointing": True}),
]


def peak_and_predicted(world_of, scale, micro_batch, num_parts, values):
    """Return the bytes that the allocator holds at most in a step, and those that are predicted.

    The step compares the gradients of both losses too.
    """
    ranks = values.get("ranks", 1)
    own = {"device": "cuda", "compile": False, "micro_batch": micro_batch, "activation_checkpointing": False}
    own |= {"budget.batch_size": micro_batch * num_parts * ranks, "budget.samples": 0}
    config = with_attention(replaced(SCALES[scale](), own | values))
    setup = setup_of(config)
    gc.collect()  # the models of other tests, whose modules refer to each other,
    torch.cuda.empty_cache()  # and their blocks, which the allocator would give whole to somewhat smaller tensors
    model = build_empty(config).to_empty(device="cuda")
    engine = Engine(implementation_of(objective(config.objective.name))(model, config), config, setup, world_of(ranks))
    optimizer = build_optimizer(model, config.optimizer)
    batch = full_batch(config, micro_batch * num_parts)
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        engine.gradient_balance(engine.micro_batches(batch))
        engine.backward(engine.micro_batches(batch))
        engine.clip_gradients()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    predicted = predict(config, setup)
    return torch.cuda.max_memory_allocated(), predicted.total - predicted.process


def full_batch(config, num_images):
    """Return images whose captions are all as long as possible, and whose prefixes have one patch."""
    T, image_px = config.model.max_text_tokens, config.model.image_px
    place_N = torch.arange(num_images * T)
    return Batch.of(
        torch.zeros(num_images, 3, image_px, image_px),
        torch.zeros(num_images, T, dtype=torch.int64),
        torch.ones(num_images, dtype=torch.int64),
        place_N[place_N % T < T - 1],
        torch.full((num_images,), T),
        config,
    )
