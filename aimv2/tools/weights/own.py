"""Weights in our layout: folders that ``weights import`` wrote, and finished runs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from aimv2.base.files import read_object
from aimv2.config.serialization import flatten
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network
from aimv2.start.origin import WEIGHTS, read_origin
from aimv2.tools.weights.contents import Weights, dtypes, empty_network, weights_config
from aimv2.tools.weights.files import read_tensors, write_folder
from aimv2.tools.weights.tensors import OURS, check_agrees, measured, to_ours

NetworkType = TypeVar("NetworkType", bound=Network)


def load_encoder(folder: str | Path) -> Encoder:
    """Load the encoder of a folder that ``weights import`` wrote, or of a finished run.

    Raises:
        UsageError: the folder is neither, or incomplete.
    """
    weights = read_weights(folder)
    return with_tensors(empty_network(weights.config), weights.tensors).encoder


def with_tensors(network: NetworkType, tensors: Mapping[str, Tensor]) -> NetworkType:
    """Return a network on torch's meta device with these tensors, in evaluation mode."""
    copies = {name: value.clone() for name, value in tensors.items()}  # a memory-mapped file may change
    network.load_state_dict(copies, strict=True, assign=True)
    return network.eval()


def write_weights(weights: Weights, folder: str | Path) -> None:
    """Write weights under our names.

    Raises:
        UsageError: the folder is not empty, or cannot be written.
    """
    write_folder(Path(folder), WEIGHTS, weights.tensors, asdict(weights.config))


def read_weights(folder: str | Path) -> Weights:
    """Read a folder that ``weights import`` wrote, or the encoder of a finished run.

    Raises:
        UsageError: the folder is neither, or incomplete.
    """
    origin = read_origin(str(folder), "from")
    where, tensors, omitted = origin.path / "config.json", read_tensors(origin.file), ""
    if origin.run is None:
        config = weights_config(where, read_object(where))
    else:
        source = {"layout": "run", "file": origin.path.name, "dtypes": dtypes(tensors)}
        config = weights_config(where, {"source": source, **origin.sizes})
        omitted = ", ".join(sorted({name.partition(".")[0] for name in tensors} - {"encoder"}))
        tensors = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
    check_agrees(where, flatten(asdict(config)), flatten(measured(origin.file, tensors, OURS)))
    return Weights(config, to_ours(origin.file, tensors, OURS, config), omitted)
