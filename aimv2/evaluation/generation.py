"""Captions that the model writes for held-out images.

Letters: B images, K beams, N captions, V vocabulary, E decoder width. Keys and values are cached (``Decoder.begin``,
``Decoder.extend``), so a token costs one position.
"""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aimv2.base import address
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import Pairs
from aimv2.data.sources.scene import Caption
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import unnormalise
from aimv2.evaluation.held_out import Words, network_inputs, prepare_captions, read_pairs
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.network import Network


def greedy(model: EncoderDecoder, image: Tensor, num_tokens: int) -> Tensor:
    """Write the most likely token at each step: int64 [B, num_tokens]. Full attention in the encoder."""
    return _write(model, image, num_tokens, lambda log_prob_BV, step: log_prob_BV.argmax(dim=-1))


def nucleus(model: EncoderDecoder, image: Tensor, num_tokens: int, *, top_p: float, seed: int) -> Tensor:
    """Sample from the fewest tokens that together have probability ``top_p``, in (0, 1]: int64 [B, num_tokens].

    A draw is a function of the seed, the row and the position in the caption.

    Source: arXiv 1904.09751.
    """

    def choose(log_prob_BV: Tensor, step: int) -> Tensor:
        uniform_B = address.uniforms(
            seed=seed,
            purpose="nucleus",
            epoch_B=np.full(len(log_prob_BV), step),
            sample_id_B=np.arange(len(log_prob_BV)),
            num_draws=1,
        )
        prob_BV, token_BV = log_prob_BV.double().exp().sort(dim=-1, descending=True)
        before_BV = prob_BV.cumsum(dim=-1) - prob_BV
        kept_BV = torch.where(before_BV < top_p, prob_BV, 0)
        reached_BV = kept_BV.cumsum(dim=-1)
        wanted_B1 = torch.from_numpy(uniform_B).to(prob_BV.device) * reached_BV[:, -1:]
        # The first position whose sum exceeds the draw; rounding may put the draw past the last one.
        place_B1 = (reached_BV <= wanted_B1).sum(dim=-1, keepdim=True)
        last_B1 = (kept_BV > 0).sum(dim=-1, keepdim=True) - 1
        return token_BV.gather(1, torch.minimum(place_B1, last_B1)).squeeze(1)

    return _write(model, image, num_tokens, choose)


@torch.no_grad()
def beam(
    model: EncoderDecoder, image: Tensor, num_tokens: int, *, num_beams: int, end_id: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the most likely captions that a search with K beams finds, best first.

    Args:
        end_id: token that ends a caption, which then keeps its probability; None writes all ``num_tokens``.

    Returns:
        int64 [B, K, num_tokens], padded with ``end_id`` after it, and their log-probabilities [B, K].
    """
    model.eval()
    B, K = len(image), num_beams
    # All beams of an image are equal at first, so only one of them may be continued.
    hidden_NE, cache = model.decoder.begin(model.encoder(image).repeat_interleave(K, dim=0))
    score_BK = torch.tensor([0, *[-torch.inf] * (K - 1)], device=image.device).expand(B, -1)
    token_BKT = torch.empty((B, K, 0), dtype=torch.int64, device=image.device)
    is_done_BK = torch.zeros((B, K), dtype=torch.bool, device=image.device)
    for step in range(num_tokens):
        log_prob_BKV = model.decoder.text_head(hidden_NE).float().log_softmax(dim=-1).view(B, K, -1)
        V = log_prob_BKV.shape[-1]
        if end_id is not None:
            stay_V = torch.full((V,), -torch.inf, device=image.device)
            stay_V[end_id] = 0
            log_prob_BKV = torch.where(is_done_BK[..., None], stay_V, log_prob_BKV)
        score_BK, place_BK = (score_BK[..., None] + log_prob_BKV).flatten(1).topk(K, dim=1)
        from_BK, next_BK = place_BK // V, place_BK % V
        token_BKT = torch.cat([token_BKT.gather(1, from_BK[..., None].expand(-1, -1, step)), next_BK[..., None]], dim=2)
        if end_id is not None:
            is_done_BK = is_done_BK.gather(1, from_BK) | (next_BK == end_id)
        if step + 1 < num_tokens:
            cache.select((torch.arange(B, device=image.device)[:, None] * K + from_BK).flatten())
            hidden_NE = model.decoder.extend(next_BK.flatten(), cache)
    return token_BKT, score_BK


@torch.no_grad()
def _write(model: EncoderDecoder, image: Tensor, num_tokens: int, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return tokens [B, num_tokens], each chosen from the log-probabilities [B, V] and its position."""
    model.eval()
    hidden_BE, cache = model.decoder.begin(model.encoder(image))
    chosen = []
    for step in range(num_tokens):
        token_B = choose(model.decoder.text_head(hidden_BE).float().log_softmax(dim=-1), step)
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
