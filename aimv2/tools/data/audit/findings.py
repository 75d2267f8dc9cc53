"""An audit of sources and labelled sets: formats, captions, unusable samples, duplicates, and leakage between sides.

Facts of all sides are one table (``survey.SCHEMA``), so that each image is compared with each. Letters: N facts.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import Progress

from aimv2.base.errors import UsageError
from aimv2.config.data_config import kind_of
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind, Joined
from aimv2.data.prepare import load_tokenizer
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.tools.data.audit import copies
from aimv2.tools.data.audit.survey import SCHEMA, AuditedSide, caption_choice, sides_of, survey

PERCENTILES = (0, 1, 25, 50, 75, 99, 100)
MOST = 10  # captions that are listed
NUM_EXAMPLES = 12
NUM_NAMED = 20  # unusable samples that are listed


def audit(sources: Sequence[str], config: RunConfig, num: int, workers: int, console: Console) -> dict[str, Any]:
    """Read sources and labelled sets, at most ``num`` samples of each side, and return what is found.

    Raises:
        UsageError: a source cannot be opened.
        RunFailedError: the data is broken, or a process was killed.
    """
    opened = [sides_of(source, config.data) for source in sources]
    sides = [side for own in opened for side in own]
    tokenizer = _tokenizer(config, sides)
    tables, content, about = [pl.DataFrame(schema=SCHEMA)], None, None
    if tokenizer is not None:
        content = tokenizer.to_json()
        origin = config.data.tokenizer or "trained on these captions"
        max_tokens = config.model.max_text_tokens
        about = {"origin": origin, "vocabulary": tokenizer.vocab_size, "max_text_tokens": max_tokens}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("auditing", total=sum(min(num, len(side.pairs)) for side in sides))
        for table in survey(sources, sides, config.data, content, num, workers):
            tables.append(table)
            progress.advance(task, len(table))
    fact_N = pl.concat(tables)
    near = near_looks(fact_N)
    values = {
        "sources": [_source([sides.index(side) for side in own], sides, fact_N, near, about) for own in opened],
        "leakage": leaks([side.name for side in sides], fact_N, near),
        "near_copies": {"threshold": copies.THRESHOLD, "examples": _examples(sides, fact_N, near)},
        "tokenizer": about,
    }
    return {"summary": _summary(values), **values}


def check_names(sources: Sequence[str]) -> None:
    """Raise a UsageError for a source that is unknown or given twice."""
    for source in sources:
        try:
            kind_of(source)
        except ValueError as error:
            raise UsageError(str(error)) from error
    if len(set(sources)) < len(sources):
        raise UsageError(f"{' '.join(sources)}: each source is needed once")


def _tokenizer(config: RunConfig, sides: Sequence[AuditedSide]) -> CaptionTokenizer | None:
    """Return the configured tokenizer, or one trained on the training captions; None if there are no such captions."""
    train = {side.source: side.pairs for side in sides if side.side == "train" and side.kinds}
    if not train and config.data.tokenizer is None:
        return None
    return load_tokenizer(config.data, config.model, Joined(train or {"none": sides[0].pairs}))


def _source(
    numbers: Sequence[int],
    sides: Sequence[AuditedSide],
    fact_N: pl.DataFrame,
    near: pl.DataFrame,
    tokenizer: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what is found in a source, whose sides have these numbers."""
    own_N = fact_N.filter(pl.col("side").is_in(numbers))
    read, first = dict(own_N["side"].value_counts().rows()), sides[numbers[0]]
    max_tokens = None if tokenizer is None else tokenizer["max_text_tokens"]
    return {
        "name": first.source,
        "sides": [
            {"side": sides[number].side, "pairs": len(sides[number].pairs), "read": read.get(number, 0)}
            for number in numbers
        ],
        "images": images(own_N, near),
        "captions": {kind: captions(own_N, kind, max_tokens, sides) for kind in first.kinds},
        "unusable": _unusable(own_N, sides),
    }


def images(fact_N: pl.DataFrame, near: pl.DataFrame) -> dict[str, Any]:
    """Return what the images of a source are: formats, modes, sizes, problems and duplicates."""
    usable_N, content_N = fact_N.filter(pl.col("problem").is_null()), fact_N["content"].drop_nulls()
    width_N, height_N = usable_N["width"].to_numpy(), usable_N["height"].to_numpy()
    num_contents = fact_N.unique(["look", "content"]).drop_nulls("look").group_by("look").len("num")
    num_near = near.join(num_contents, left_on="other", right_on="look").group_by("look").agg(pl.col("num").sum())
    return {
        "problems": _counts(fact_N["problem"]),
        "formats": _counts(fact_N["format"]),
        "modes": _counts(usable_N["mode"]),
        "shorter side in px": _percentiles(np.minimum(width_N, height_N)),
        "longer side in px": _percentiles(np.maximum(width_N, height_N)),
        "width / height": _percentiles(width_N / np.maximum(height_N, 1)),
        "bytes": _percentiles(usable_N["bytes"].drop_nulls().to_numpy()),
        "exact copies": len(content_N) - content_N.n_unique(),
        "one colour": usable_N["look"].null_count(),
        "with a near copy": fact_N.join(num_near.filter(pl.col("num") > 1), on="look", how="semi").height,
    }


def captions(
    fact_N: pl.DataFrame, kind: CaptionKind, max_tokens: int | None, sides: Sequence[AuditedSide]
) -> dict[str, Any]:
    """Return what the captions of a kind are: problems, lengths, scripts and duplicates.

    Args:
        max_tokens: tokens of a caption that a run sees; None if tokens were not counted.
    """
    usable_N = fact_N.drop_nulls(f"{kind} hash")
    tokens_N = usable_N[f"{kind} tokens"].drop_nulls().to_numpy()
    repeated = (
        usable_N.group_by(f"{kind} hash", maintain_order=True)
        .agg(pl.first("side"), pl.first("row"), pl.len().alias("times"))
        .filter(pl.col("times") > 1)
        .sort("times", descending=True, maintain_order=True)
    )
    found = {
        "problems": _counts(fact_N[f"{kind} problem"]),
        "words": _percentiles(usable_N[f"{kind} words"].to_numpy()),
        "scripts": _counts(usable_N[f"{kind} script"]),
        "repeated": int((repeated["times"] - 1).sum()),
        "most frequent": [
            {"caption": sides[side].pairs.caption(row, kind, caption_choice(row)).text, "times": times}
            for side, row, times in repeated.head(MOST).select("side", "row", "times").rows()
        ],
    }
    if max_tokens is not None:
        # One place is for end-of-text.
        found |= {"tokens": _percentiles(tokens_N), "truncated": int((tokens_N > max_tokens - 1).sum())}
    return found


def _unusable(fact_N: pl.DataFrame, sides: Sequence[AuditedSide]) -> dict[str, Any]:
    """Return the number of samples without a usable image or caption, and the keys and reasons of the first ones."""
    problems = ["problem", *(f"{kind} problem" for kind in CAPTION_KINDS)]
    bad_N = fact_N.filter(pl.any_horizontal(pl.col(problems).is_not_null()))
    named = [
        {
            "key": sides[fact["side"]].key(fact["row"]),
            "side": sides[fact["side"]].side,
            "reason": ", ".join(dict.fromkeys(fact[name] for name in problems if fact[name])),
        }
        for fact in bad_N.head(NUM_NAMED).iter_rows(named=True)
    ]
    return {"num": len(bad_N), "first": named}


def near_looks(fact_N: pl.DataFrame) -> pl.DataFrame:
    """Return each perceptual hash with those near it, itself included: the columns ``look`` and ``other``."""
    look_N = fact_N["look"].drop_nulls().unique().sort().to_numpy()
    pair_K2 = copies.near_pairs(look_N)
    both_K2 = np.concatenate([pair_K2, pair_K2[:, ::-1], np.arange(len(look_N))[:, None].repeat(2, axis=1)])
    return pl.DataFrame({"look": look_N[both_K2[:, 0]], "other": look_N[both_K2[:, 1]]})


def leaks(names: Sequence[str], fact_N: pl.DataFrame, near: pl.DataFrame) -> list[dict[str, Any]]:
    """Compare every side with every other one; the sides that training shows come first, as ``within``.

    Returns:
        Of each pair: the images of ``of`` that were compared (``num``); of these, how many have a file with the same
        bytes in ``within`` (``exact``), a near copy or the same bytes (``near``), and a near copy with an equal
        caption of any kind (``near_and_caption``).
    """
    ordered = sorted(range(len(names)), key=lambda number: not names[number].endswith(" train"))
    tables = {number: fact_N.filter(pl.col("side") == number, pl.col("content").is_not_null()) for number in ordered}
    return [
        {"of": names[of], "within": names[within], **_leak(tables[of], tables[within], near)}
        for within, of in combinations(ordered, 2)
    ]


def _leak(one_N: pl.DataFrame, other_N: pl.DataFrame, near: pl.DataFrame) -> dict[str, int]:
    captions = [f"{kind} hash" for kind in CAPTION_KINDS]
    there = near.join(other_N.unique(["look", *captions]), left_on="other", right_on="look")
    exact, like = (one_N.join(table, on=on, how="semi")["row"] for table, on in ((other_N, "content"), (there, "look")))
    same = [one_N.join(there, on=["look", caption], how="semi")["row"] for caption in captions]
    return {
        "num": len(one_N),
        "exact": len(exact),
        "near": pl.concat([exact, like]).n_unique(),
        "near_and_caption": pl.concat(same).n_unique(),
    }


def _examples(sides: Sequence[AuditedSide], fact_N: pl.DataFrame, near: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the names and keys of some near copies with other bytes, at distances from 0 on evenly."""
    first = fact_N.drop_nulls("look").unique(["look", "content"], keep="first", maintain_order=True)
    first = first.select("side", "row", "look", "content").group_by("look", maintain_order=True).head(2)
    pairs = (
        near.join(first, on="look", maintain_order="left_right")
        .join(first, left_on="other", right_on="look", suffix="_other", maintain_order="left_right")
        .filter(pl.col("content") < pl.col("content_other"))
    )
    distance_K = np.bitwise_count(pairs["look"].to_numpy() ^ pairs["other"].to_numpy())
    pairs = pairs.with_columns(distance=pl.Series(distance_K)).sort("distance", maintain_order=True)
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(NUM_EXAMPLES, len(pairs))).round().astype(np.int64))
    return [
        {
            "distance": pair["distance"],
            "keys": [
                f"{sides[pair[side]].name}: {sides[pair[side]].key(pair[row])}"
                for side, row in (("side", "row"), ("side_other", "row_other"))
            ],
        }
        for pair in pairs[chosen.tolist()].iter_rows(named=True)
    ]


def _counts(names: pl.Series) -> dict[str, int]:
    """Return how often each name occurs, the most frequent first."""
    counts = names.drop_nulls().value_counts(name="num").rows()
    return dict(sorted(counts, key=lambda row: (-row[1], row[0])))


def _percentiles(value_N: np.ndarray) -> dict[str, float]:
    """Return smallest and largest value and percentiles; nothing if there is no value."""
    if not len(value_N):
        return {}
    names = ("min", *(f"{percentile} %" for percentile in PERCENTILES[1:-1]), "max")
    return dict(zip(names, np.percentile(value_N, PERCENTILES).round(3).tolist(), strict=True))


def _summary(values: Mapping[str, Any]) -> list[str]:
    """Return the main findings, a line each."""
    lines = []
    for source in values["sources"]:
        found, unusable = source["images"], source["unusable"]
        first = ", ".join(f"{bad['key']} ({bad['reason']})" for bad in unusable["first"][:3])
        num_read, num_pairs = (sum(side[what] for side in source["sides"]) for what in ("read", "pairs"))
        lines.append(
            f"{source['name']}: read {num_read:,} of {num_pairs:,} pairs"
            f"{', a random sample, which underestimates copies' if num_read < num_pairs else ''};"
            f" unusable: {unusable['num']:,}{f', such as {first}' if first else ''};"
            f" exact copies: {found['exact copies']:,}, images with a near copy: {found['with a near copy']:,}"
        )
    lines += [
        f"{leak['of']}: {leak['near']:,} of {leak['num']:,} images are also in {leak['within']},"
        f" {leak['exact']:,} with the same bytes"
        for leak in values["leakage"]
        if leak["near"]
    ]
    return lines


def lines(values: Mapping[str, Any]) -> list[str]:
    """Return the findings as lines of text: details of each source, and the summary."""
    shown = []
    for source in values["sources"]:
        tables = {"images": source["images"], **{f"{kind} captions": own for kind, own in source["captions"].items()}}
        for name, table in tables.items():
            shown.append(f"{source['name']}: {name}")
            shown += [f"  {what}: {_text(value)}" for what, value in table.items() if value or value == 0]
    return [*shown, *values["summary"]]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(number)}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(f"{one['caption']!r} {one['times']:,} times" for one in value)
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"
