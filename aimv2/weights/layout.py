"""What a published layout says of itself; reading, writing and checking ask this. Each has a file of its own."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from aimv2.errors import UsageError
from aimv2.weights.contents import WeightsConfig
from aimv2.weights.names import Names

HEAD_DIM = 128  # of every published AIMv2, LiT's text tower too


class Layout(ABC):
    """The names of the tensors, and their ``config.json`` in and out.

    Attributes:
        name: what ``layout=`` takes.
        head: tensors of a head that may be there; they are not read.
        file: what a file of weights is called.
        has_text_tower: whether it is a pair of encoders.
    """

    name: ClassVar[str]
    names: ClassVar[Names]
    head: ClassVar[tuple[str, ...]] = ()
    file: ClassVar[str] = "model.safetensors"
    has_text_tower: ClassVar[bool] = False

    @abstractmethod
    def said(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        """What a config.json says, with what it means by leaving something out.

        Raises:
            UsageError: it is of another kind of model.
        """

    @abstractmethod
    def values(self, where: str, said: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
        """The values of a WeightsConfig but for its source: those seen in the tensors, and those that are only said.

        Args:
            where: the config.json, or the file of weights if there is none.
            said: empty if there is none.

        Raises:
            UsageError: something is neither seen nor said.
        """

    @abstractmethod
    def check(self, where: str, said: dict[str, Any], config: WeightsConfig) -> None:
        """Refuse a config.json that says anything else than this config, or asks for what our encoder does not do.

        Raises:
            UsageError: it does.
        """

    @abstractmethod
    def description(self, config: WeightsConfig) -> dict[str, Any]:
        """The config.json for others to load."""


def num_heads(where: str, said: dict[str, Any], key: str, width: int) -> Any:
    """The number that is said, not checked yet; heads are 128 wide where none is.

    Raises:
        UsageError: none is, and 128 does not divide the width.
    """
    if key not in said and width % HEAD_DIM:
        raise UsageError(
            f"{where}: only a config.json could say how many heads there are, for a width of {width} is no multiple of"
            f" {HEAD_DIM}, the width of a head in every published model"
        )
    return said.get(key, width // HEAD_DIM)
