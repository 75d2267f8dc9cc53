"""What the benchmark of training steps runs and counts. Nothing here depends on time."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aimv2.cost.parts import train_flops
from aimv2.objectives.build import build
from aimv2.spec.objectives import objective
from benchmarks.synthetic import SCENES
from benchmarks.training import Case, TrainingStep, batches_of, useful_flops
from tests.helpers.training import losses_of


def batch_of(tiny, batch, *, lengths, prefix_len, T=12):
    """Return the batch with captions of other lengths, all supervised, and with other prefixes."""
    text_len = torch.tensor(lengths)
    token_BT = torch.where(torch.arange(T) < text_len[:, None] - 1, 7, 1)
    supervised = (torch.arange(T) < text_len[:, None]).flatten().nonzero().squeeze(1)
    return batch.of(batch.image, token_BT, torch.tensor(prefix_len), supervised, text_len, tiny)


def test_padding_is_not_useful(tiny, batch):
    sizes = {"lengths": [2, 3, 4, 5, 6, 7], "prefix_len": [8] * 6}
    assert useful_flops(tiny, batch_of(tiny, batch, **sizes, T=7)) == useful_flops(tiny, batch_of(tiny, batch, **sizes))


def test_patches_in_prefixes_are_not_useful_to_the_pixel_head(tiny, batch):
    long, short = (batch_of(tiny, batch, lengths=[4] * 6, prefix_len=[length] * 6) for length in (12, 4))
    difference = 6 * 8 * 2 * 32 * 48 * 3  # images, patches, and products of width by values, forward and backward
    assert useful_flops(tiny, short) - useful_flops(tiny, long) == difference


def test_useful_flops_are_those_that_torch_counts_but_for_attention_and_last_tokens(tiny, batch):
    full = batch_of(tiny, batch, lengths=[12] * 6, prefix_len=[8] * 6)
    model = build(tiny)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        losses_of(model, full, tiny).total.backward()
    parts = {part.name: part for part in objective("aimv2").cost(tiny)}
    hidden = sum(part.attention - part.useful_attention for part in parts.values())
    shorter = replace(tiny, model=replace(tiny.model, max_text_tokens=11))
    last = train_flops([parts["decoder"]], 1, 0) - train_flops([objective("aimv2").cost(shorter)[1]], 1, 0)
    counted = counter.get_total_flops()
    assert useful_flops(tiny, full) == pytest.approx(counted - 6 * (3 * hidden + last), rel=0.01)


@pytest.fixture
def batches(tiny, tmp_path):
    return batches_of(Case(tiny, SCENES), tmp_path / "pairs", 4)


def test_batches_have_short_and_dense_captions(batches):
    assert batches.config.budget.batch_size == 4
    batch = batches[0]
    assert batch.image.shape == (4, 3, 16, 16)
    assert ((batch.text_len_B > 1) & (batch.text_len_B <= 12)).all()
    assert batch.num_scored > 0


@pytest.mark.parametrize("num_parts", [1, 2])
def test_step_notes_the_time_of_each_part_and_keeps_the_weights(batches, num_parts):
    """The clock advances by one whenever it is read: before and after the data, each forward pass, and the rest."""
    config = replace(batches.config, micro_batch=4 // num_parts)
    step = TrainingStep(lambda: batches[0], config, itertools.count().__next__)
    before = [weight.clone() for weight in step.objective.parameters()]
    step()
    step()
    expected = {"data": 1, "forward": num_parts, "backward": num_parts + 1, "optimizer": 1}
    assert step.seconds == {part: [seconds, seconds] for part, seconds in expected.items()}
    assert all(torch.equal(one, other) for one, other in zip(before, step.objective.parameters(), strict=True))
    assert all(weight.grad is None for weight in step.objective.parameters())
