"""``python -m aimv2 data show``: a contact sheet of samples as training sees them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass
from rich.console import Console
from tokenizers import Tokenizer

from aimv2.base.errors import UsageError
from aimv2.base.files import replacing, writable_folder
from aimv2.config.arguments import HELP
from aimv2.config.data_config import CHECKED, is_described
from aimv2.config.options import defaults_of, options_of, usage
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CAPTION_KINDS
from aimv2.data.text import clean
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.datasets.plugin import caption_kinds
from aimv2.request.compose import compose, run_config
from aimv2.request.resolve import with_attention
from aimv2.spec.objectives import objective
from aimv2.tools.data.contact_sheet import Cell, Piece, sheet

SPACES = ("Ġ", "▁")  # tokens of a byte-level and of a SentencePiece tokenizer
console = Console()


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ShowOptions:
    """The options of ``data show``."""

    to: str = Field(default="sheet.png", description="the picture to write; an existing one is replaced")
    step: NonNegativeInt = Field(default=0, description="the first training step")
    num: int = Field(
        default=16, gt=0, le=400, description="samples, from this step on; a sheet of 400 is 20,000 px high"
    )


USAGE = usage(
    "python -m aimv2 data show [key=value ...]",
    "Draw samples of a run as training sees them: the crop, the patches of the prefix, and the caption as tokens.",
    ShowOptions,
    "  scale=demo                   any value of a run, as in train",
)


def show_command(arguments: Sequence[str]) -> int:
    """Write a contact sheet and print where it is.

    Raises:
        UsageError: the arguments or a source are invalid, or the picture cannot be written.
    """
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    values = compose(arguments, defaults={}, values=defaults_of(ShowOptions))
    options = options_of(ShowOptions, values)
    to, step, num = Path(options.to), options.step, options.num
    if to.suffix != ".png":
        raise UsageError(f"to={str(to)!r} must end in .png")
    config = with_attention(run_config(values))
    objective(config.objective.name).check(config)
    if config.native.areas:
        raise UsageError("data show draws squares of one size; type native.areas=[]")
    writable_folder(str(to.absolute().parent), "the folder of to")
    num_bad, found = cells(config, step, num)
    picture = sheet(found, _title(config, step, num, num_bad), has_prefix=_has_prefix(config))
    with replacing(to) as partial:
        picture.save(partial, format="PNG")
    console.print(f"wrote {to}: {num} samples from step {step} on", highlight=False, markup=False, soft_wrap=True)
    return 0


def cells(config: RunConfig, step: int, num: int) -> tuple[int, list[Cell]]:
    """Return the number of bad samples that were replaced, and what to draw of the samples from a step on."""
    from aimv2.data.batches.training import TrainBatches  # here, because it loads torch
    from aimv2.data.prepare import prepare
    from aimv2.data.reading import Reader
    from aimv2.data.transforms import unnormalise
    from aimv2.model.positions import reading_order

    data = prepare(config.data, config.model, show_progress=True)
    batches, reader = TrainBatches(config, data.train, data.tokenizer), Reader(config, data.train)
    size, grid, has_prefix = config.budget.batch_size, config.model.grid, _has_prefix(config)
    order = reading_order(config.model.patch_order, grid) or range(grid**2)
    kinds = [caption_kinds(source) if is_described(source) else CAPTION_KINDS for source in config.data.sources]
    found: list[Cell] = []
    num_bad = 0
    while len(found) < num:
        first = size * (step + len(found) // size)
        batch = batches[first // size]
        shown = min(size, num - len(found))
        samples = reader.read(np.arange(first, first + size))
        num_bad += len(samples.bad)
        keys = data.train.keys(samples.row_B)
        captions = pieces(data.tokenizer, samples.captions[:shown], batch.token_BT.numpy())
        for index, caption in zip(range(shown), captions, strict=True):
            part = int(samples.part_B[index])
            in_prefix_GG = np.ones((grid, grid), dtype=bool)
            prefix_len = int(batch.prefix_len_B[index])
            if has_prefix:
                in_prefix_GG.flat[list(order[prefix_len:])] = False
            targets = None if batch.target_image is None else unnormalise(batch.target_image[index])
            cell = Cell(
                source=config.data.names[part],
                kind=kinds[part][0] if len(kinds[part]) == 1 else CAPTION_KINDS[int(samples.is_dense_B[index])],
                key=keys[index],
                place=first + index,
                epoch=int(samples.epoch_B[index]),
                prefix_len=prefix_len,
                image=unnormalise(batch.image[index]),
                target=targets,
                in_prefix_GG=in_prefix_GG,
                pieces=caption,
            )
            found.append(cell)
    return num_bad, found


def pieces(tokenizer: CaptionTokenizer, captions: Sequence[str], token_BT: np.ndarray) -> Iterator[list[Piece]]:
    """Yield each caption as the text of its tokens; those that do not fit the run are marked as truncated.

    Args:
        captions: as they are before the tokenizer cleans them.
        token_BT: int64 [B, T], the tokens that training sees, for at least these captions.
    """
    content = tokenizer.to_json()
    raw, unknown = Tokenizer.from_str(content), _unknown(json.loads(content))
    for caption, token_T in zip(map(clean, captions), token_BT, strict=False):
        encoding = raw.encode(caption, add_special_tokens=False)
        num_seen = int((token_T != tokenizer.end_id).sum())
        assert encoding.ids[:num_seen] == token_T[:num_seen].tolist(), "training sees other tokens than are drawn"
        word_T = [caption.count(" ", 0, end) for _, end in encoding.offsets]  # of a space, the word after it
        yield [
            Piece(
                text=text,
                starts_word=place == 0 or word_T[place - 1] != word_T[place],
                is_unknown=encoding.ids[place] == unknown,
                is_truncated=place >= num_seen,
            )
            for place, text in enumerate(_texts(caption, encoding.tokens, encoding.offsets))
        ]


def _texts(caption: str, tokens: Sequence[str], offsets: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Yield the text of each token: nothing for a space, a dot for further bytes of the character before."""
    done = 0
    for token, (start, end) in zip(tokens, offsets, strict=True):
        if token in SPACES:
            yield ""
            continue
        yield "·" if start < done else caption[start:end].strip()
        done = end


def _unknown(content: dict[str, Any]) -> int | None:
    """Return the id of the unknown token of a ``tokenizer.json``, None if it has none."""
    model = content["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    found = model["vocab"].get(token) if token is not None else None
    return None if found is None else int(found)


def _has_prefix(config: RunConfig) -> bool:
    """True if the prefix matters: to the encoder's attention or to the pixel loss."""
    return config.model.encoder.attention == "prefix" or "pixels" in objective(config.objective.name).reports


def _title(config: RunConfig, step: int, num: int, num_bad: int) -> list[str]:
    """Return the lines above the samples."""
    data, model = config.data, config.model
    facts = [
        f"scale {config.scale}",
        f"objective {config.objective.name}",
        f"seed {config.seed}",
        f"{num:,} samples from step {step:,} on, {config.budget.batch_size:,} in a step",
    ]
    sizes = [
        f"images {model.image_px} px, patches {model.patch_px} px",
        f"captions up to {model.max_text_tokens} tokens",
    ]
    shuffled = [f"{name} shuffled" for name in ("captions", "pixels") if getattr(data, name) == "shuffled"]
    bad = [f"bad samples replaced: {num_bad:,}"] if num_bad else []
    return [", ".join(facts), ", ".join([*sizes, *shuffled, *bad])]
