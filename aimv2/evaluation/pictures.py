"""What a model predicts for a few held-out images: captions by greedy decoding, and pictures while a run trains.

Letters: B images, N captions, E decoder width, I patches in reading order, P values in a patch.
"""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aimv2.config.model_config import ModelConfig
from aimv2.config.prefix import prefix_len_at
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import Pairs
from aimv2.data.prepare import Data
from aimv2.data.sources.scene import Caption
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import IMAGENET, unnormalise
from aimv2.definitions.objectives import Objective
from aimv2.evaluation.held_out import Words, network_inputs, prepare_captions, read_pairs
from aimv2.evaluation.losses import predicted_patches
from aimv2.evaluation.prepare import of_split
from aimv2.evaluation.sheet import Shown, Word, comparison, sheet
from aimv2.model.network import EncoderDecoder, Network
from aimv2.model.positions import in_reading_order, reading_order
from aimv2.objectives.losses import PIXEL_EPS, patchify

NUM_IMAGES = 4
FRACTION = 0.5  # of the image, the prefix, as in the held-out curve
UNSEEN = 170  # grey level of patches after the prefix


@torch.no_grad()
def greedy(model: EncoderDecoder, image: Tensor, num_tokens: int) -> Tensor:
    """Write the most likely token at each step: int64 [B, num_tokens]. Full attention in the encoder.

    Keys and values are cached (``Decoder.begin``, ``Decoder.extend``), so a token costs one position.
    """
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
    cut at the number of tokens of the true one.
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
    row_N, images, read_captions = read_pairs(pairs, max_bad_rate=1.0)
    captions, image = read_captions["dense"], network_inputs(images, config)
    written = written_captions(model, image, captions, tokenizer, config)
    shown = []
    for row, (key, caption) in enumerate(zip(pairs.keys(row_N), captions, strict=True)):
        Image.fromarray(unnormalise(image[row])).save(png := io.BytesIO(), "png")
        encoded = base64.b64encode(png.getvalue()).decode()
        shown.append({"key": key, "reference": caption.text, "written": written[row], "png": encoded})
    return shown


def drawn_predictions(
    goal: Objective, data: Data, config: RunConfig, write: Callable[[bytes, int], None]
) -> Callable[[Network, int], None]:
    """Return a function that draws the predictions of a network after a step, if it is one of ``picture_steps``.

    A picture has, for the first held-out images, what the objective predicts: the patches after half of the image, and
    the dense caption beside the true one. An objective that predicts neither is not drawn. ``write`` receives the
    picture as PNG, and the step.
    """
    steps, predicts = set(config.picture_steps), {"pixels", "captions"} & set(goal.reports)
    if not steps or not predicts:
        return lambda model, step: None
    # Bad pairs are left out; the held-out curve has checked their rate.
    _, images, captions = read_pairs(of_split(data.held_out, NUM_IMAGES, config.evaluation), max_bad_rate=1.0)
    image = network_inputs(images, config)
    short = prepare_captions(captions["short"], Words.of(data.tokenizer, config))
    prefix_len, num_patches = prefix_len_at(FRACTION, config.model.num_patches), config.model.num_patches
    seen = completed(image, unseen(config.model), prefix_len, config.model)
    columns = {"image": [unnormalise(pixels) for pixels in image]}

    def draw(network: Network, step: int) -> None:
        if step not in steps:
            return
        model, drawn = cast(EncoderDecoder, network), columns
        captioned: list[dict[str, list[Word]]] = [{}] * len(image)
        if "pixels" in predicts:
            rest_BIP = predicted_patches(model, image.to(config.device), short, prefix_len, config).cpu()
            predicted = completed(image, with_contrast(rest_BIP, image, prefix_len, config), prefix_len, config.model)
            drawn = columns | {f"first {prefix_len} of {num_patches} patches": seen, "predicted after them": predicted}
        if "captions" in predicts:
            written = written_captions(model, image, captions["dense"], data.tokenizer, config)
            captioned = [comparison(true.text, text) for true, text in zip(captions["dense"], written, strict=True)]
        rows = [Shown(pictures, texts) for *pictures, texts in zip(*drawn.values(), captioned, strict=True)]
        title = f"predictions on held-out images, step {step:,} of {config.budget.num_steps:,}"
        write(sheet(rows, title, list(drawn)), step)

    return draw


def completed(image: Tensor, rest_BIP: Tensor, prefix_len: int, config: ModelConfig) -> list[np.ndarray]:
    """Put other patches, in reading order, in place of those after a prefix of network inputs [B, 3, P, P].

    Returns:
        pictures, uint8 [P, P, 3] each.
    """
    true_BIP = in_reading_order(patchify(image, config.patch_px), config.patch_order, config.grid)
    rest_BIP = rest_BIP.expand(len(image), config.num_patches - prefix_len, config.patch_dim)
    patch_BIP = torch.cat([true_BIP[:, :prefix_len], rest_BIP], dim=1)
    places = reading_order(config.patch_order, config.grid)
    if places is not None:
        patch_BIP = patch_BIP[:, torch.tensor(places).argsort()]
    return [unnormalise(pixels) for pixels in unpatchify(patch_BIP, config.patch_px)]


def unseen(config: ModelConfig) -> Tensor:
    """Return a grey patch as the network would read it: float32 [P]."""
    grey_3 = (UNSEEN / 255 - torch.tensor(IMAGENET.mean)) / torch.tensor(IMAGENET.std)
    return grey_3.repeat(config.patch_px**2)


def with_contrast(predicted_BIP: Tensor, image: Tensor, prefix_len: int, config: RunConfig) -> Tensor:
    """Return predictions of the patches after a prefix as pixels.

    A standardised prediction lacks the patch's brightness and contrast, so it gets those of the true patch, as in MAE.
    """
    if config.objective.pixel_targets == "raw":
        return predicted_BIP
    model = config.model
    true_BIP = in_reading_order(patchify(image, model.patch_px), model.patch_order, model.grid)[:, prefix_len:]
    deviation_BI1 = (true_BIP.var(dim=-1, keepdim=True) + PIXEL_EPS).sqrt()
    return predicted_BIP * deviation_BI1 + true_BIP.mean(dim=-1, keepdim=True)


def unpatchify(patch_BIP: Tensor, patch_px: int) -> Tensor:
    """Put patches in raster order [B, I, P] back together to images [B, 3, S, S]."""
    grid = round(patch_BIP.shape[1] ** 0.5)
    cells = patch_BIP.view(len(patch_BIP), grid, grid, patch_px, patch_px, 3)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(patch_BIP), 3, grid * patch_px, grid * patch_px)
