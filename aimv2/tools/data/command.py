"""``python -m aimv2 data``: the commands on data, their options and helps, apart from what they import."""

from collections.abc import Sequence
from pkgutil import resolve_name

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from aimv2.base.errors import unknown
from aimv2.config.arguments import HELP, as_typed, usage
from aimv2.config.data_config import CHECKED


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class IndexOptions:
    """The options of ``data index``."""

    workers: PositiveInt | None = Field(
        default=None, examples=["N"], description="processes that read (default: one for each core)"
    )
    audit: bool = Field(
        default=False,
        description="also report what cannot be used, copies and near copies, and images that training shares with"
        " held-out sides or evaluation sets; the findings are written to FILE.audit.json, and the keys of these"
        " training pairs to FILE.leaks.txt.",
    )
    num: PositiveInt = Field(
        default=100_000, description="samples that an audit reads of each side, a random sample if it has more"
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class WriteOptions:
    """The options of ``data write``."""

    to: str | None = Field(default=None, examples=["FOLDER"], description="a new or empty folder")
    num: PositiveInt | None = Field(
        default=None, examples=[1000], description="pairs to write, a random sample of all (default: all)"
    )
    pairs_per_shard: PositiveInt = Field(default=4096, description="samples in a shard")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ShowOptions:
    """The options of ``data show``."""

    to: str = Field(default="sheet.png", description="the picture to write; an existing one is replaced")
    step: NonNegativeInt = Field(default=0, description="the first training step")
    num: int = Field(default=16, gt=0, le=100, description="samples, from this step on")


# By command: the function, imported when it is called; its options, its arguments, what it does, and values of a run.
COMMANDS: dict[str, tuple[str, type, str, str, str]] = {
    "index": (
        "aimv2.tools.data.index:index_command",
        IndexOptions,
        "index FILE.yaml ...",
        "Index the data of descriptions. Files that have not changed since the last time are not read again.",
        "  data.max_pixels=67108864     of an audit: any data.* key of a run, as in train",
    ),
    "write": (
        "aimv2.tools.data.samples:write_command",
        WriteOptions,
        "write to=FOLDER",
        "Write pairs of any source as tar shards. They are in WebDataset's format and in random order, with a"
        " description that training reads and that holds out the same pairs. Each sample has an image, its short"
        " caption as txt, and json with both captions. Files keep their bytes; pictures that are drawn become PNG.",
        "  data.sources=[openmoji]      built-in sources, or the path of one description; other data.* as in train",
    ),
    "show": (
        "aimv2.tools.data.samples:show_command",
        ShowOptions,
        "show",
        "Draw samples of a run as training sees them. Of the crop, patches after the prefix are dimmed; the words of"
        " the caption are divided into tokens, and truncated words are underlined.",
        "  scale=demo                   any value of a run, as in train",
    ),
}


def data_command(arguments: Sequence[str]) -> int:
    """Run a command on data and return its exit status."""
    if not arguments or arguments[0] in HELP:
        print(data_usage(), end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        raise unknown("data command", name, COMMANDS)
    if HELP & set(rest) or (not rest and name != "show"):
        print(data_usage([name]), end="")
        return 0 if rest else 2
    status: int = resolve_name(COMMANDS[name][0])(rest)
    return status


def data_usage(arguments: Sequence[str] = ()) -> str:
    """Return the help of the command that is named first, or of all."""
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {line:28} {summary.partition('.')[0]}" for _, _, line, summary, _ in COMMANDS.values()]
        return "\n".join(
            [f"usage: {as_typed('data')} COMMAND [...]\n", *lines, "\n  COMMAND --help for its arguments\n"]
        )
    _, kind, line, summary, notes = COMMANDS[arguments[0]]
    return usage(f"{as_typed('data')} {line} [key=value ...]", summary, kind, notes)
