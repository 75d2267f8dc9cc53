"""``python -m aimv2 data audit``: a page about images, captions, duplicates and leakage of sources."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from pydantic import PositiveInt
from rich.console import Console
from rich.progress import Progress

from aimv2.base.errors import REASONS, UsageError
from aimv2.base.files import writable_folder, write_json
from aimv2.config.arguments import HELP, checked
from aimv2.config.data_config import DataConfig, is_described, kind_of
from aimv2.config.run_config import RunConfig
from aimv2.data.decode import square
from aimv2.data.pairs import CaptionKind, Joined, Pairs
from aimv2.data.prepare import load_tokenizer
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.request.compose import compose, run_config
from aimv2.tools.data.audit import findings, known_copies
from aimv2.tools.data.audit.findings import Copies, Part
from aimv2.tools.data.audit.page import Example, Page, write_page
from aimv2.tools.data.audit.survey import (
    FACT,
    NO_PROBLEM,
    Subject,
    caption_choice,
    chosen_rows,
    open_subject,
    survey,
)

USAGE = """usage: python -m aimv2 data audit SOURCE ... [key=value ...]

Write a page about sources: formats and sizes of images, lengths and scripts of captions, what cannot be used,
duplicates, near copies, and images that training shares with held-out sides or evaluation sets. A SOURCE is the
description of pairs or of a labelled set, or a built-in name.

  to=audit                     the folder of the page; audit.html and audit.json are replaced
  num=100000                   pairs to read from each side, a random sample if it has more
  workers=N                    processes that read (default: one for each core)
  data.tokenizer=PATH          count tokens of this tokenizer.json instead of one trained on these captions; other
                               values of a run as in train
  debug=true                   show the traceback of an error
"""

NUM = 100_000
NUM_EXAMPLES = 12
NUM_NAMED = 20  # unusable samples that the page lists
NUM_CHANGED = 100  # images on which the search for near copies is measured
console = Console()


def audit_command(arguments: Sequence[str]) -> int:
    """Write the page and print the main findings.

    Raises:
        UsageError: the arguments or a source are invalid, or the folder cannot be written.
    """
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    sources = [text for text in arguments if "=" not in text or is_described(text)]
    own = {"to": "audit", "num": NUM, "workers": len(os.sched_getaffinity(0))}
    values = compose([text for text in arguments if text not in sources], defaults={}, values=own)
    num, workers = (checked(key, PositiveInt, values[key]) for key in ("num", "workers"))
    config = run_config(values)
    _check(sources)
    folder = writable_folder(checked("to", str, values["to"]), "to")
    page = audit(sources, config, num, workers)
    write_json(folder / "audit.json", page.values)
    write_page(folder / "audit.html", page)
    console.print(
        "\n".join([*page.values["summary"], f"wrote {folder / 'audit.html'}"]),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0


def audit(sources: Sequence[str], config: RunConfig, num: int, workers: int) -> Page:
    """Read the sources and return what is found."""
    subjects = [open_subject(source, config.data) for source in sources]
    tokenizer = _tokenizer(config, subjects)
    rows = [[chosen_rows(side.pairs, num) for side in subject.sides] for subject in subjects]
    parts = _read(sources, subjects, config.data, tokenizer, rows, workers)
    copies = Copies([part for of_source in parts for part in of_source])
    every = [part for of_source in parts for part in of_source]
    pairs = [side.pairs for subject in subjects for side in subject.sides]
    max_tokens = config.model.max_text_tokens
    examples = findings.examples(every, copies, NUM_EXAMPLES)
    values: dict[str, Any] = {
        "sources": [
            _source_values(subject, of_source, copies, None if tokenizer is None else max_tokens)
            for subject, of_source in zip(subjects, parts, strict=True)
        ],
        "leakage": [vars(leak) for leak in findings.leaks(every, copies)],
        "near_copies": {
            "threshold": findings.THRESHOLD,
            **_measured(every, pairs, copies, config.data.max_pixels)._asdict(),
        },
        "tokenizer": _about(tokenizer, config),
    }
    values["summary"] = _summary(values)
    shown = [
        Example(
            tuple(_thumbnail(pairs[part], every[part].fact_N[fact], config.data.max_pixels) for part, fact in both),
            tuple(f"{every[part].name}: {_key(pairs[part], every[part].fact_N[fact])}" for part, fact in both),
            distance,
        )
        for *both, distance in examples
    ]
    return Page(values, parts, tuple(shown), tuple(subject.kinds for subject in subjects))


def _check(sources: Sequence[str]) -> None:
    if not sources:
        raise UsageError("data audit needs a source: a built-in name, or the path of a description")
    for source in sources:
        try:
            kind_of(source)
        except ValueError as error:
            raise UsageError(str(error)) from error
    if len(set(sources)) < len(sources):
        raise UsageError(f"{' '.join(sources)}: each source is needed once")


def _tokenizer(config: RunConfig, subjects: Sequence[Subject]) -> CaptionTokenizer | None:
    """Return the configured tokenizer, or one trained on the training captions; None if there are no such captions."""
    train = {
        subject.name: side.pairs
        for subject in subjects
        for side in subject.sides
        if side.name == "train" and subject.kinds
    }
    if not train and config.data.tokenizer is None:
        return None
    return load_tokenizer(config.data, config.model, Joined(train or {"none": subjects[0].sides[0].pairs}))


def _read(
    sources: Sequence[str],
    subjects: Sequence[Subject],
    config: DataConfig,
    tokenizer: CaptionTokenizer | None,
    rows: list[list[np.ndarray]],
    workers: int,
) -> list[list[Part]]:
    facts = [[np.zeros(len(row_N), FACT) for row_N in of_source] for of_source in rows]
    done = [[0] * len(of_source) for of_source in rows]
    total = sum(len(row_N) for of_source in rows for row_N in of_source)
    content = None if tokenizer is None else tokenizer.to_json()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("reading", total=total)
        for source, side, fact_B in survey(sources, config, content, rows, workers):
            start = done[source][side]
            facts[source][side][start : start + len(fact_B)] = fact_B
            done[source][side] += len(fact_B)
            progress.advance(task, len(fact_B))
    return [
        [
            Part(subject.name, side.name, len(side.pairs), fact_N)
            for side, fact_N in zip(subject.sides, of_source, strict=True)
        ]
        for subject, of_source in zip(subjects, facts, strict=True)
    ]


def _source_values(subject: Subject, parts: Sequence[Part], copies: Copies, max_tokens: int | None) -> dict[str, Any]:
    fact_N = np.concatenate([part.fact_N for part in parts])
    side_N = np.repeat(np.arange(len(parts)), [len(part.fact_N) for part in parts])

    def text_of(kind: CaptionKind, place: int) -> str:
        row = int(fact_N["row"][place])
        caption = subject.sides[int(side_N[place])].pairs.caption(row, kind, caption_choice(row))
        return caption.text

    return {
        "name": subject.name,
        "sides": [{"side": part.side, "pairs": part.num_pairs, "read": len(part.fact_N)} for part in parts],
        "images": findings.images(fact_N, copies),
        "captions": {
            kind: findings.captions(fact_N, kind, max_tokens, partial(text_of, kind)) for kind in subject.kinds
        },
        "unusable": _unusable(subject, fact_N, side_N),
    }


def _unusable(subject: Subject, fact_N: np.ndarray, side_N: np.ndarray) -> dict[str, Any]:
    """Return the number of samples without a usable image or caption, and the keys and reasons of the first ones."""
    problem_NX = np.column_stack([fact_N["problem"], fact_N["caption_problem"]])
    is_bad_N = (problem_NX != NO_PROBLEM).any(axis=1)
    named = []
    for place in np.flatnonzero(is_bad_N)[:NUM_NAMED].tolist():
        side = subject.sides[int(side_N[place])]
        reasons = dict.fromkeys(REASONS[problem] for problem in problem_NX[place].tolist() if problem != NO_PROBLEM)
        named.append({"key": _key(side.pairs, fact_N[place]), "side": side.name, "reason": ", ".join(reasons)})
    return {"num": int(is_bad_N.sum()), "first": named}


def _measured(parts: Sequence[Part], pairs: Sequence[Pairs], copies: Copies, max_pixels: int) -> known_copies.Measured:
    """Measure the search for near copies on some images of all parts."""
    pictures = []
    each = -(-NUM_CHANGED // len(parts))
    for part, own in zip(parts, pairs, strict=True):
        usable_N = part.fact_N[part.fact_N["problem"] == NO_PROBLEM]
        rows = usable_N["row"][:: max(1, len(usable_N) // each)][:each].tolist()
        pictures += [_square(own, row, known_copies.SIDE, max_pixels) for row in rows]
    return known_copies.measure(pictures, copies.look_U, findings.THRESHOLD)


def _square(pairs: Pairs, row: int, side: int, max_pixels: int) -> np.ndarray:
    picture = pairs.picture(row)
    if isinstance(picture, np.ndarray):
        return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    return square(picture, side, max_pixels)


def _thumbnail(pairs: Pairs, fact: np.ndarray, max_pixels: int) -> np.ndarray:
    return _square(pairs, int(fact["row"]), 128, max_pixels)


def _key(pairs: Pairs, fact: np.ndarray) -> str:
    key: str
    (key,) = pairs.keys(np.array([int(fact["row"])]))
    return key


def _about(tokenizer: CaptionTokenizer | None, config: RunConfig) -> dict[str, Any] | None:
    if tokenizer is None:
        return None
    origin = config.data.tokenizer or "trained on these captions"
    return {"origin": origin, "vocabulary": tokenizer.vocab_size, "max_text_tokens": config.model.max_text_tokens}


def _summary(values: dict[str, Any]) -> list[str]:
    """Return the main findings, a line each."""
    lines = []
    for source in values["sources"]:
        images, unusable = source["images"], source["unusable"]
        first = ", ".join(f"{bad['key']} ({bad['reason']})" for bad in unusable["first"][:3])
        lines.append(
            f"{source['name']}: read {images['read']:,} of {sum(side['pairs'] for side in source['sides']):,} pairs;"
            f" unusable: {unusable['num']:,}{f', such as {first}' if first else ''};"
            f" exact copies: {images['exact copies']:,}, images with a near copy: {images['with a near copy']:,}"
        )
    lines += [
        f"{leak['of']}: {leak['near']:,} of {leak['num']:,} images are also in {leak['within']},"
        f" {leak['exact']:,} with the same bytes"
        for leak in values["leakage"]
        if leak["near"]
    ]
    return lines
