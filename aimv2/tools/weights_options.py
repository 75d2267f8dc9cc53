"""The options of ``weights``, and its help, apart from what it imports."""

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.config.arguments import as_typed, usage
from aimv2.config.data_config import CHECKED

LayoutName = Literal["transformers", "ml-aim"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ImportOptions:
    """Read published weights, and write them in our layout."""

    source: str = Field(alias="from", description="published weights, a file or a folder", examples=["PATH"])
    to: str = Field(description="a new folder", examples=["FOLDER"])
    layout: Literal["auto", "transformers", "ml-aim"] = Field(
        default="auto", description="transformers or ml-aim; auto detects it by the names of the tensors"
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ExportOptions:
    """Write weights that other packages load; of a run also a model card, README.md."""

    source: str = Field(
        alias="from", description="a folder of: weights import, or of a finished run", examples=["PATH"]
    )
    to: str = Field(description="a new folder", examples=["FOLDER"])
    layout: LayoutName = Field(default="transformers", description="transformers or ml-aim")


ACTIONS: dict[str, type[ImportOptions | ExportOptions]] = {"import": ImportOptions, "export": ExportOptions}


def weights_usage(arguments: Sequence[str] = ()) -> str:
    """Return the help of the action that is named first, or of all."""
    named = {name: ACTIONS[name] for name in arguments[:1] if name in ACTIONS} or ACTIONS
    line = f"{as_typed('weights')} {{}} from=PATH to=FOLDER [key=value ...]"
    return "\n".join(usage(line.format(name), kind.__doc__ or "", kind) for name, kind in named.items())
