"""The interface of a published layout, which reading, writing and checking use. Each layout has its own file."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from aimv2.base.errors import UsageError
from aimv2.tools.weights.contents import WeightsConfig
from aimv2.tools.weights.names import Names

HEAD_DIM = 128  # of every published AIMv2, including LiT's text tower


class Layout(ABC):
    """The names of a layout's tensors, and its ``config.json``.

    Attributes:
        name: value of ``layout=``.
        head: tensors of an optional head, which are not read.
        file: name of the file of weights.
        has_text_tower: True for a pair of encoders.
    """

    name: ClassVar[str]
    names: ClassVar[Names]
    head: ClassVar[tuple[str, ...]] = ()
    file: ClassVar[str] = "model.safetensors"
    has_text_tower: ClassVar[bool] = False

    @abstractmethod
    def stated(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a config.json, with the layout's defaults for missing ones.

        Raises:
            UsageError: it describes another kind of model.
        """

    @abstractmethod
    def values(self, where: str, stated: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a WeightsConfig except its source.

        Args:
            where: the config.json, or the file of weights if there is none.
            stated: values of the config.json; empty if there is none.
            shown: values that the shapes of the tensors show.

        Raises:
            UsageError: a value is neither shown nor stated.
        """

    @abstractmethod
    def check(self, where: str, stated: dict[str, Any], config: WeightsConfig) -> None:
        """Refuse a config.json that contradicts this config or requires more than our encoder does.

        Raises:
            UsageError: naming the key.
        """

    @abstractmethod
    def description(self, config: WeightsConfig) -> dict[str, Any]:
        """Return the config.json that other packages load."""


def num_heads(where: str, stated: dict[str, Any], key: str, width: int) -> Any:
    """Return the stated number of heads, not checked yet, or else that of heads 128 wide.

    Raises:
        UsageError: the number is not stated, and the width is not a multiple of 128.
    """
    if key not in stated and width % HEAD_DIM:
        raise UsageError(
            f"{where}: the number of heads is unknown without a config.json: the width {width} is not a multiple of"
            f" {HEAD_DIM}, the width of a head in every published model"
        )
    return stated.get(key, width // HEAD_DIM)
