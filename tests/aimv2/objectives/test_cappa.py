import pytest
import torch
import torch.nn.functional as F

from aimv2.model.network import build
from tests.helpers.objectives import with_objective
from tests.helpers.training import losses_of


@pytest.mark.parametrize(("fraction", "num_parallel"), [(0, 0), (0.25, 2), (0.75, 4), (1, 6)])
def test_loss_matches_a_loop_over_images(tiny, batch, fraction, num_parallel):
    """Oracle: image by image, with an explicit mask and attention."""
    config = with_objective(tiny, "cappa", attention="bidirectional", parallel_fraction=fraction)
    model = build(config).double()
    batch = batch._replace(image=batch.image.double())
    decoder, nats = model.decoder, []
    for row in range(6):
        is_parallel = row < num_parallel
        image_ID = decoder.image_proj(model.encoder(batch.image[row : row + 1]))[0]
        inputs = [decoder.bos[0, 0], *(decoder.text_embed.weight[token] for token in batch.token_BT[row])]
        if is_parallel:
            inputs = [decoder.mask_token[0, 0]] * 13
        x_LE = torch.cat([image_ID, torch.stack(inputs) + decoder.text_pos_embed])
        for block in decoder.blocks:
            x_LE = x_LE + attend(block.attn, block.norm1(x_LE), is_parallel)
            x_LE = x_LE + block.ffn(block.norm2(x_LE))
        log_prob_SV = F.log_softmax(decoder.text_head(decoder.norm(x_LE)[16:]), dim=-1)
        nats += [-log_prob_SV[t, token] for t, token in enumerate(batch.token_BT[row].tolist()) if token != 1]
    total, terms = losses_of(model, batch, config)
    torch.testing.assert_close(total, torch.stack(nats).mean())
    assert terms == {"text_loss": total}


def attend(attention, x_LE, is_parallel):
    length, width = x_LE.shape
    query, key, value = attention.qkv(x_LE).view(length, 3, 2, width // 2).permute(1, 2, 0, 3)
    mixed = torch.zeros(2, length, width // 2, dtype=x_LE.dtype)
    for q in range(length):
        seen = [k for k in range(length) if k <= q or (is_parallel and q >= 16)]
        for head in range(2):
            weight = torch.softmax(query[head, q] @ key[head, seen].T / (width // 2) ** 0.5, dim=-1)
            mixed[head, q] = weight @ value[head, seen]
    return attention.out(mixed.permute(1, 0, 2).reshape(length, width))
