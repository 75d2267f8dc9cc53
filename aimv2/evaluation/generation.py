"""Captions that the model writes for held-out images.

Letters: B images, N captions, E decoder width. Keys and values are cached (``Decoder.begin``,
``Decoder.extend``), so a token costs one position.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import Pairs
from aimv2.data.sources.scene import Caption
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import unnormalise
from aimv2.evaluation.held_out import Words, network_inputs, prepare_captions, read_pairs
from aimv2.model.network import EncoderDecoder, Network


@torch.no_grad()
def greedy(model: EncoderDecoder, image: Tensor, num_tokens: int) -> Tensor:
    """Write the most likely token at each step: int64 [B, num_tokens]. Full attention in the encoder."""
    model.eval()
    hidden_BE, cache = model.decoder.begin(model.encoder(image))
    chosen = []
    for step in range(num_tokens):
        token_B = model.decoder.text_head(hidden_BE).float().log_softmax(dim=-1).argmax(dim=-1)
        chosen.append(token_B)
        if step + 1 < num_tokens:
            hidden_BE = model.decoder.extend(token_B, cache)
    return torch.stack(chosen, dim=1)


def written_captions(
    model: EncoderDecoder, image: Tensor, captions: Sequence[Caption], tokenizer: CaptionTokenizer, config: RunConfig
) -> list[str]:
    """Return the caption that the model writes for each image, [N, 3, P, P], by greedy decoding.

    If end-of-text is not supervised, as in the released config, the model does not learn to stop. Its caption is then
    cut at the number of tokens of the true one, its reference.
    """
    length_N = prepare_captions(captions, Words.of(tokenizer, config)).supervised_NT.sum(dim=1).tolist()
    is_cut, most = not config.objective.supervise_eos, config.model.max_text_tokens - 1
    written_NT = greedy(model, image.to(config.device), min(max(length_N), most) if is_cut else most).cpu()
    return [
        tokenizer.decode(written_T[: length if is_cut else None].tolist())
        for written_T, length in zip(written_NT, length_N, strict=True)
    ]


def examples(model: Network, pairs: Pairs, tokenizer: CaptionTokenizer, config: RunConfig) -> list[dict[str, Any]]:
    """Return images (PNG, base64), their dense captions and the model's; pairs that cannot be used are left out."""
    assert isinstance(model, EncoderDecoder), "only a decoder writes captions"
    if not len(pairs):
        return []
    row_N, images, found_captions = read_pairs(pairs, max_bad_rate=1.0)
    captions, image = found_captions["dense"], network_inputs(images, config)
    written = written_captions(model, image, captions, tokenizer, config)
    found = []
    for row, (key, caption) in enumerate(zip(pairs.keys(row_N), captions, strict=True)):
        Image.fromarray(unnormalise(image[row])).save(png := io.BytesIO(), "png")
        encoded = base64.b64encode(png.getvalue()).decode()
        found.append({"key": key, "reference": caption.text, "written": written[row], "png": encoded})
    return found
