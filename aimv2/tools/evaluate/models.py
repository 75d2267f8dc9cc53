"""The frozen network that is evaluated: of a finished run, of imported weights or of a public checkpoint."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.base.files import read_object
from aimv2.config.paths import replaced
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network, build_empty
from aimv2.start.origin import read_origin
from aimv2.tools.weights.contents import Weights, WeightsConfig, empty_network, resampled
from aimv2.tools.weights.files import read_tensors
from aimv2.tools.weights.own import read_weights, with_tensors
from aimv2.tools.weights.published import read_published


@dataclass(frozen=True, eq=False)
class Model:
    """A network to evaluate.

    Attributes:
        name: the name of the run, folder or file.
        network: both encoders of a run that has two, else only that of images.
        config: sizes of the encoder; ``image_px`` is that of the evaluation.
        digest: of the tensors and of the sizes, equal for the same weights in any layout.
        tokenizer: of the text encoder; None if there is none.
    """

    name: str
    network: Network
    config: WeightsConfig
    digest: str
    tokenizer: CaptionTokenizer | None

    @property
    def encoder(self) -> Encoder:
        return self.network.encoder

    @property
    def pair(self) -> DualEncoder | None:
        """Both encoders; None if there is only one for images."""
        return self.network if isinstance(self.network, DualEncoder) else None


def load_model(path: Path, *, image_px: int | None = None) -> Model:
    """Load the network of a finished run, of a folder of ``weights import``, or of a public checkpoint.

    Args:
        path: the folder, or the file of a public checkpoint.
        image_px: resample learned positions for images of this size.

    Raises:
        UsageError: there is no such thing at the path, it is incomplete or unsafe, or the size does not fit.
    """
    if not path.exists():
        raise UsageError(f"weights={str(path)!r}: there is no such file or folder")
    description = path / "config.json"
    is_ours = description.is_file() and bool({"budget", "layout_version"} & read_object(description).keys())
    weights = read_weights(path) if is_ours else read_published(path)
    if image_px is not None:
        weights = resampled(weights, image_px)
    found = _pair(path, weights) if is_ours else None
    network, tokenizer = found or (with_tensors(empty_network(weights.config), weights.tensors), None)
    digest = _digest(weights.config, network.state_dict())
    return Model(path.resolve().name, network, weights.config, digest, tokenizer)


def _pair(path: Path, weights: Weights) -> tuple[Network, CaptionTokenizer] | None:
    """Return both encoders and the tokenizer of a run that trained a text encoder.

    Args:
        weights: of the run's image encoder, which have been checked and may be resampled.
    """
    origin = read_origin(str(path), "weights")
    if origin.run is None or "text_tower" not in origin.parts:
        return None
    px = weights.config.image_px
    config = replaced(origin.run, {"model.image_px": px, "data.render_px": max(px, origin.run.data.render_px)})
    try:
        network = with_tensors(build_empty(config), read_tensors(origin.file) | weights.tensors)
    except RuntimeError as error:
        raise UsageError(f"{path}: the tensors are not those of the run's config: {error}") from error
    return network, CaptionTokenizer.load(origin.tokenizer)


def _digest(config: WeightsConfig, tensors: Mapping[str, Tensor]) -> str:
    sizes = {key: value for key, value in asdict(config).items() if key not in ("source", "text_tower")}
    found = hashlib.sha256(json.dumps(sizes, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()
