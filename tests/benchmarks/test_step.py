"""The benchmark of training steps: its FLOPs, by torch's counter, and its rows. Nothing here depends on time."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import demo
from aimv2.cost import train_flops
from aimv2.definitions.objectives import objective
from aimv2.objectives.build import build
from benchmarks.step import StepOptions, config_and_batch, measure, useful_flops
from tests.helpers.peak_memory import step_of, with_objective
from tests.helpers.training import losses_of


def batch_of(tiny, batch, *, lengths, prefix_len, T=12):
    """Return the batch with captions of other lengths, all supervised, and with other prefixes."""
    text_len = torch.tensor(lengths)
    token_BT = torch.where(torch.arange(T) < text_len[:, None] - 1, 7, 1)
    supervised = (torch.arange(T) < text_len[:, None]).flatten().nonzero().squeeze(1)
    return batch.of(batch.image, token_BT, torch.tensor(prefix_len), supervised, text_len, tiny)


def test_neither_padding_nor_patches_in_prefixes_are_useful(tiny, batch):
    sizes = {"lengths": [2, 3, 4, 5, 6, 7], "prefix_len": [8] * 6}
    assert useful_flops(tiny, batch_of(tiny, batch, **sizes, T=7)) == useful_flops(tiny, batch_of(tiny, batch, **sizes))

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


def test_steps_do_not_change_the_network():
    """Else the last repeats would train another network than the first, and could overflow."""
    step = step_of(with_objective(demo(), "aimv2", batch_size=2))
    before = [weight.detach().clone() for weight in step.objective.parameters()]
    step()
    weights = list(step.objective.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, weights, strict=True))
    assert all(weight.grad is None for weight in weights)


def test_batches_have_short_and_dense_captions(tiny, tmp_path):
    config, batch = config_and_batch(tiny, tmp_path, 4, {"device": "cpu"})
    assert config.budget.batch_size == 4
    assert batch.image.shape == (4, 3, 16, 16)
    assert ((batch.text_len_B > 1) & (batch.text_len_B <= 12)).all()
    assert batch.num_scored > 0


def test_a_row_has_the_rate_and_its_share():
    values = {"scale": "demo", "precisions": ("float32",), "batch_size": 2, "repeats": 1, "device": "cpu"}
    (table,) = measure(StepOptions(**values))
    (row,) = table.rows
    assert (row["model"], row["objective"], row["precision"]) == ("demo", "aimv2", "float32")
    assert row["images / s"] == pytest.approx(2000 / row["ms"])
    rate = row["needed, GFLOP"] * row["images / s"] / 2
    assert row["share of its rate"].median == pytest.approx(rate / row["product, GFLOP / s"])


def test_compile_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"compile=true needs a C[+][+] compiler \(no-such-compiler\), which this"):
        list(measure(StepOptions(compile=True, device="cpu")))


@pytest.mark.exhaustive
def test_compiled_step_is_compared_with_an_eager_one():
    (table,) = measure(StepOptions(scale="demo", precisions=("float32",), batch_size=2, repeats=2, compile=True))
    assert table.rows[0]["eager / compiled"].median > 0
