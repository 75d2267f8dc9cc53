import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from aimv2.data.text import clean
from aimv2.evaluation.losses import caption_loss, pixel_loss_at, prepare_pairs
from aimv2.losses import patchify, standardise
from aimv2.model.network import build


@pytest.fixture
def model(tiny):
    return build(tiny)


@pytest.fixture
def held_out(pairs):
    return pairs[1].subset(21)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("supervise_eos", [False, True])
def test_caption_loss_matches_a_loop_over_tokens(tiny, pairs, held_out, supervise_eos, is_causal):
    config = replace(tiny, objective=replace(tiny.objective, supervise_eos=supervise_eos))
    config = replace(config, model=replace(config.model, max_text_tokens=40))
    tokenizer, model = pairs[2], build(config)
    data = prepare_pairs(held_out, tokenizer, config, caption="name")
    nats, count = 0.0, 0
    for row in range(21):
        prefix_len = torch.ones(1, dtype=torch.int64) if is_causal else None
        _, hidden = model(data.image[row : row + 1], data.token_NT[row : row + 1], prefix_len)
        logp = F.log_softmax(model.decoder.text_head(hidden)[0].double(), dim=-1)
        content = [token for token in data.token_NT[row].tolist() if token != 1]
        targets = content + [1] * supervise_eos
        nats -= sum(float(logp[t, token].detach()) for t, token in enumerate(targets))
        count += len(targets)
    loss = caption_loss(model, data, config, is_causal=is_causal, batch_size=8)  # the last batch is smaller
    assert loss.num_tokens == count
    assert loss.nats_per_token == pytest.approx(nats / count, rel=1e-5)
    num_bytes = sum(len(clean(name).encode()) for name in held_out.table["name"])
    assert loss.bits_per_byte == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)


def test_num_bytes_counts_the_cleaned_captions_that_fit(tiny, pairs, held_out):
    data = prepare_pairs(held_out, pairs[2], tiny, caption="description")
    expected = 0
    for caption, tokens in zip(held_out.table["description"], data.token_NT.tolist(), strict=True):
        spelled = pairs[2]._tokenizer.decode(tokens).lstrip()  # a cut caption may end in a space
        assert clean(caption).startswith(spelled)
        expected += len(spelled.encode())
    assert data.num_bytes == expected
    assert any((row[:-1] != 1).all() for row in data.token_NT), "some captions are cut"


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
def test_pixel_loss_scores_patches_after_the_prefix_only(tiny, pairs, model, held_out, fraction):
    data = prepare_pairs(held_out, pairs[2], tiny, caption="name")
    length = round(16 * fraction)
    image_part, _ = model(data.image, data.token_NT, torch.full((21,), length))
    predicted = model.decoder.pixel_head(image_part)
    target = standardise(patchify(data.image, tiny.model.patch_px))
    expected = (predicted[:, length - 1 : 15] - target[:, length:]).square().mean()
    assert pixel_loss_at(model, data, fraction, tiny) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_evaluation_changes_no_weights(tiny, pairs, model, held_out):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = prepare_pairs(held_out, pairs[2], tiny, caption="description")
    caption_loss(model, data, tiny)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
