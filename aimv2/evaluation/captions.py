"""Captions that the model writes for held-out images."""

import base64
import io
from typing import Any

import torch
from PIL import Image

from aimv2.config import RunConfig
from aimv2.data.pairs import Pairs
from aimv2.data.text import clean
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import unnormalise
from aimv2.evaluation.losses import prepare_pairs
from aimv2.model.aimv2 import AIMv2


@torch.no_grad()
def greedy(model: AIMv2, image: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """The likeliest next token, again and again: int64 [B, num_tokens]. Full attention in the encoder."""
    model.eval()
    features_BID = model.encoder(image)
    token_BT = torch.empty((len(image), 0), dtype=torch.int64, device=image.device)
    for _ in range(num_tokens):
        _, text_BTE = model.decoder(features_BID, token_BT)
        next_B1 = model.decoder.text_head(text_BTE[:, -1:]).argmax(dim=-1)
        token_BT = torch.cat([token_BT, next_B1], dim=1)
    return token_BT


def examples(model: AIMv2, pairs: Pairs, tokenizer: CaptionTokenizer, config: RunConfig) -> list[dict[str, Any]]:
    """Images (PNG, base64), their captions and the model's.

    With end-of-text unsupervised, as in the released config, the model never learned to stop, so its caption is cut at
    the reference's number of tokens.
    """
    if not len(pairs):
        return []
    data = prepare_pairs(pairs, tokenizer, config, caption="name")
    written_NT = greedy(model, data.image.to(config.device), config.model.max_text_tokens - 1).cpu()
    stops = not config.objective.supervise_eos
    found = []
    for row, name in enumerate(pairs.table["name"]):
        length = int(data.supervised_NT[row].sum()) if stops else None
        found.append(
            {
                "key": pairs.table["key"][row],
                "reference": clean(name),
                "written": tokenizer.decode(written_NT[row, :length].tolist()),
                "png": _png(data.image[row]),
            }
        )
    return found


def _png(image: torch.Tensor) -> str:
    stream = io.BytesIO()
    Image.fromarray(unnormalise(image)).save(stream, "png")
    return base64.b64encode(stream.getvalue()).decode()
