"""Weights in our layout: folders that ``weights import`` wrote, and finished runs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.base.files import read_object
from aimv2.config.serialization import flatten
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network
from aimv2.start.origin import WEIGHTS, read_origin
from aimv2.tools.weights.contents import (
    Weights,
    WeightsConfig,
    dtypes,
    empty_network,
    split_off_encoder,
    weights_config,
)
from aimv2.tools.weights.files import read_tensors, write_folder
from aimv2.tools.weights.tensors import OURS, check_agrees, measured, to_ours

FILE = WEIGHTS


def load_encoder(folder: str | Path) -> Encoder:
    """Load the encoder of a folder that ``weights import`` wrote, or of a finished run.

    Raises:
        UsageError: the folder is neither, or incomplete.
    """
    return load_network(read_weights(folder)).encoder


def load_dual_encoder(folder: str | Path) -> DualEncoder:
    """Load the image and text encoders of a folder that ``weights import`` wrote, or of a finished run of objective
    clip.

    Texts are read causally, as in ml-aim. transformers does so only if it gets an attention mask, and with SDPA (5.24)
    only if the mask hides something.

    Raises:
        UsageError: the folder is neither, incomplete, or without a text tower.
    """
    weights = read_weights(folder)
    network = load_network(weights)
    if not isinstance(network, DualEncoder):
        why = f" ({weights.omitted})" if weights.omitted else ""
        raise UsageError(f"{folder} holds an image encoder but no text tower{why}")
    return network


def load_network(weights: Weights) -> Network:
    """Return the network of these weights: a ``DualEncoder`` if they have a text tower, else only an encoder."""
    network = empty_network(weights.config)
    copies = {name: value.clone() for name, value in weights.tensors.items()}  # a memory-mapped file may change
    network.load_state_dict(copies, strict=True, assign=True)
    return network.eval()


def write_weights(weights: Weights, folder: str | Path) -> None:
    """Write weights under our names.

    Raises:
        UsageError: the folder is not empty, or cannot be written.
    """
    write_folder(Path(folder), FILE, weights.tensors, asdict(weights.config))


def read_weights(folder: str | Path) -> Weights:
    """Read a folder that ``weights import`` wrote, or the encoder or pair of encoders of a finished run.

    Raises:
        UsageError: the folder is neither, or incomplete.
    """
    origin = read_origin(str(folder), "from")
    where, tensors = origin.path / "config.json", read_tensors(origin.file)
    if origin.run is None:
        return _checked(where, weights_config(where, read_object(where)), origin.file, tensors)
    model = origin.run.model
    exported, omitted = split_off_encoder(tensors)
    tower = None
    if "similarity.logit_scale" in tensors:
        if "similarity.logit_bias" in tensors:
            omitted += ": no layout has a bias of the similarity"
        elif (model.decoder.norm, model.decoder.ffn) != ("rms", "swiglu"):
            omitted += ": no layout has a text tower with the decoder's norm and ffn"
        else:
            exported, omitted = tensors, ""
            stack, end_id = model.tower.stack, CaptionTokenizer.load(origin.tokenizer).end_id
            tower = {"width": stack.width, "depth": stack.depth, "num_heads": stack.num_heads, "end_id": end_id}
            tower |= {"embed_dim": model.tower.embed_dim, "vocab_size": model.vocab_size}
            tower |= {"max_text_tokens": model.max_text_tokens}
    source = {"layout": "run", "file": origin.path.name, "dtypes": dtypes(tensors)}
    config = weights_config(where, {"source": source, **origin.sizes, "text_tower": tower})
    return _checked(where, config, origin.file, exported)._replace(omitted=omitted)


def _checked(where: Path, config: WeightsConfig, file: Path, tensors: Mapping[str, Tensor]) -> Weights:
    """Return the weights, after checking that the tensors agree with the config."""
    shown = measured(file, tensors, OURS, has_text_tower=config.text_tower is not None)
    check_agrees(where, flatten(asdict(config)), flatten(shown))
    return Weights(config, to_ours(file, tensors, OURS, config))
