"""Weights in our layout: folders that ``weights import`` wrote, and finished runs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.base.files import read_object
from aimv2.config.model_config import FFN_MULTIPLE
from aimv2.config.program import flattened
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network
from aimv2.start.origin import WEIGHTS, Origin, read_origin
from aimv2.tools.weights.contents import Weights, dtypes, empty_network, split_off_encoder, weights_config
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


def load_dual_encoder(folder: str | Path) -> DualEncoder:
    """Load both encoders of a folder that ``weights import`` wrote, or of a finished run of objective clip.

    Texts are read causally, as in ml-aim. transformers does so only if it gets an attention mask, and with SDPA (5.24)
    only if the mask hides something.

    Raises:
        UsageError: the folder is neither, incomplete, or without a text tower.
    """
    weights = read_weights(folder)
    network = with_tensors(empty_network(weights.config), weights.tensors)
    if not isinstance(network, DualEncoder):
        why = f" ({weights.omitted})" if weights.omitted else ""
        raise UsageError(f"{folder} holds an image encoder but no text tower{why}")
    return network


def with_tensors(network: NetworkType, tensors: Mapping[str, Tensor]) -> NetworkType:
    """Return a network on torch's meta device with these tensors, in evaluation mode."""
    copies = {name: value.clone() for name, value in tensors.items()}  # a memory-mapped file may change
    network.load_state_dict(copies, strict=True, assign=True)
    return network.eval()


def write_weights(weights: Weights, folder: str | Path, texts: Mapping[str, str] | None = None) -> None:
    """Write weights under our names.

    Args:
        texts: further files by name.

    Raises:
        UsageError: the folder is not empty, or cannot be written.
    """
    values = asdict(weights.config)
    if values["encoder"]["ffn_multiple"] == FFN_MULTIPLE:
        del values["encoder"]["ffn_multiple"]  # as in folders of before there was one
    write_folder(Path(folder), WEIGHTS, weights.tensors, values, texts)


def read_weights(folder: str | Path) -> Weights:
    """Read a folder that ``weights import`` wrote, or the encoder or pair of encoders of a finished run.

    Raises:
        UsageError: the folder is neither, or incomplete.
    """
    origin = read_origin(str(folder), "from")
    where, tensors, omitted = origin.path / "config.json", read_tensors(origin.file), ""
    if origin.run is None:
        config = weights_config(where, read_object(where))
    else:
        source = {"layout": "run", "file": origin.path.name, "dtypes": dtypes(tensors)}
        tower, reason = _text_tower(origin, tensors)
        config = weights_config(where, {"source": source, **origin.sizes, "text_tower": tower})
        if tower is None:
            tensors, omitted = split_off_encoder(tensors)
            omitted += reason
    check_agrees(where, flattened(asdict(config)), flattened(measured(origin.file, tensors, OURS)))
    return Weights(config, to_ours(origin.file, tensors, OURS, config), omitted)


def _text_tower(origin: Origin, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any] | None, str]:
    """Return the sizes of a run's text tower, or None and why no layout has such a one."""
    assert origin.run is not None, "a run"
    model = origin.run.model
    if "similarity.logit_scale" not in tensors:
        return None, ""
    if "similarity.logit_bias" in tensors:
        return None, ": no layout has a bias of the similarity"
    if (model.decoder.norm, model.decoder.ffn, model.decoder.ffn_multiple) != ("rms", "swiglu", FFN_MULTIPLE):
        return None, ": no layout has a text tower with the decoder's norm and ffn"
    (stack, embed_dim), end_id = model.tower, CaptionTokenizer.load(origin.tokenizer).end_id
    sizes = {"width": stack.width, "depth": stack.depth, "num_heads": stack.num_heads, "embed_dim": embed_dim}
    return {**sizes, "vocab_size": model.vocab_size, "max_text_tokens": model.max_text_tokens, "end_id": end_id}, ""
