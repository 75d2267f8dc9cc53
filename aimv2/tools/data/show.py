"""``python -m aimv2 data show``: a contact sheet of samples as training sees them. Letters: G patches a side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aimv2.base.errors import UsageError
from aimv2.base.files import replacing, writable_folder
from aimv2.config.arguments import HELP
from aimv2.config.data_config import is_described
from aimv2.config.options import defaults_of, options_of
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CAPTION_KINDS
from aimv2.data.tokenizer import CaptionTokenizer, clean
from aimv2.datasets.plugin import caption_kinds
from aimv2.evaluation.sheet import Shown, Word, sheet
from aimv2.request.compose import compose, run_config
from aimv2.request.override_file import with_file
from aimv2.request.resolve import with_attention
from aimv2.spec.objectives import objective
from aimv2.tools.data.options import ShowOptions, usage_of


def show_command(arguments: Sequence[str]) -> int:
    """Write a contact sheet and print where it is.

    Raises:
        UsageError: the arguments or a source are invalid, or the picture cannot be written.
    """
    if HELP & set(arguments):
        print(usage_of("show"), end="")
        return 0
    values = compose(with_file(arguments), defaults={}, values=defaults_of(ShowOptions))
    options = options_of(ShowOptions, values)
    to, step, num = Path(options.to), options.step, options.num
    if to.suffix != ".png":
        raise UsageError(f"to={str(to)!r} must end in .png")
    config = with_attention(run_config(values))
    objective(config.objective.name).check(config)
    if config.native.areas:
        raise UsageError("data show draws squares of one size; type native.areas=[]")
    writable_folder(str(to.absolute().parent), "the folder of to")
    num_bad, rows = shown(config, step, num)
    bad = f", bad samples replaced: {num_bad:,}" if num_bad else ""
    title = f"scale {config.scale}, objective {config.objective.name}, seed {config.seed}, from step {step:,} on{bad}"
    picture = sheet(rows, title, ["image", "pixel targets"][: len(rows[0].pictures)])
    with replacing(to) as partial:
        partial.write_bytes(picture)
    print(f"wrote {to}: {num} samples from step {step} on")
    return 0


def shown(config: RunConfig, step: int, num: int) -> tuple[int, list[Shown]]:
    """Return the number of bad samples that were replaced, and what to draw of the samples from a step on.

    Pixel targets are drawn if they are those of another image.
    """
    from aimv2.data.batches.training import TrainBatches  # here, because it loads torch
    from aimv2.data.prepare import prepare
    from aimv2.data.reading import Reader
    from aimv2.data.transforms import unnormalise
    from aimv2.model.positions import reading_order

    data = prepare(config.data, config.model.vocab_size, show_progress=True)
    batches, reader = TrainBatches(config, data.train, data.tokenizer), Reader(config, data.train)
    size, grid = config.budget.batch_size, config.model.grid
    # The prefix matters to the encoder's attention, or to the pixel loss.
    has_prefix = config.model.encoder.attention == "prefix" or "pixels" in objective(config.objective.name).reports
    order = list(reading_order(config.model.patch_order, grid) or range(grid**2))
    kinds = [caption_kinds(source) if is_described(source) else CAPTION_KINDS for source in config.data.sources]
    rows, num_bad = list[Shown](), 0
    while len(rows) < num:
        first = size * (step + len(rows) // size)
        batch, samples = batches[first // size], reader.read(np.arange(first, first + size))
        num_bad += len(samples.bad)
        keys = data.train.keys(samples.row_B)
        for index in range(min(size, num - len(rows))):
            prefix_len, part = int(batch.prefix_len_B[index]), int(samples.part_B[index])
            is_seen_GG = np.ones((grid, grid), dtype=bool)
            if has_prefix:
                is_seen_GG.flat[order[prefix_len:]] = False
            pictures = [dimmed(unnormalise(batch.image[index]), is_seen_GG)]
            if batch.target_image is not None:
                pictures.append(unnormalise(batch.target_image[index]))
            kind = kinds[part][0] if len(kinds[part]) == 1 else CAPTION_KINDS[int(samples.is_dense_B[index])]
            facts = [f"{kind}, {config.data.names[part]} {keys[index]}", f"epoch {int(samples.epoch_B[index])}"]
            facts += [f"prefix {prefix_len} of {grid**2}"] if has_prefix else []
            words = divided(data.tokenizer, samples.captions[index], batch.token_BT[index].numpy())
            rows.append(Shown(pictures, {", ".join(facts): words}))
    return num_bad, rows


def dimmed(picture: np.ndarray, is_seen_GG: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 [P, P, 3], whose other patches are nearly white."""
    patch_px = len(picture) // len(is_seen_GG)
    is_seen = np.kron(is_seen_GG, np.ones((patch_px, patch_px), dtype=bool))[..., None]
    return np.where(is_seen, picture, 255 - (255 - picture) // 3)


def divided(tokenizer: CaptionTokenizer, caption: str, token_T: np.ndarray) -> list[Word]:
    """Return the words of a caption, divided into their tokens by ``·``; those without a token that is seen are wrong.

    Args:
        caption: as it is before the tokenizer cleans it.
        token_T: int64 [T], the tokens that training sees.
    """
    words = clean(caption).split()
    pieces: list[list[str]] = [[] for _ in words]
    for token, word in zip(token_T.tolist(), tokenizer.token_words([words], len(token_T))[0].tolist(), strict=True):
        if word >= 0:
            pieces[word].append(tokenizer.decode([token]))
    return [
        Word("·".join(filter(None, own)) or ("?" if own else word), bool(own))
        for word, own in zip(words, pieces, strict=True)
    ]
