"""The frozen network that is evaluated: of a finished run, of imported weights or of a public checkpoint."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.base.files import read_object
from aimv2.config.paths import replaced
from aimv2.data.tokenizer import END_OF_TEXT, CaptionTokenizer
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network
from aimv2.objectives.build import build_empty
from aimv2.start.origin import TOKENIZER, read_origin
from aimv2.tools.weights.contents import Weights, WeightsConfig, empty_network, resampled
from aimv2.tools.weights.files import read_tensors
from aimv2.tools.weights.own import read_weights, with_tensors
from aimv2.tools.weights.preprocessing import AS_TRAINED, Preprocessing, read_preprocessing
from aimv2.tools.weights.published import read_published


class PublishedTokenizer(CaptionTokenizer):
    """A tokenizer that adds its own special tokens, by the rule in its file, such as LiT's."""

    def __init__(self, tokenizer: Tokenizer, end_id: int) -> None:
        self._tokenizer, self.end_id = tokenizer, end_id

    def encode(self, captions: Sequence[str], max_tokens: int) -> np.ndarray:
        """Tokenize, truncate so that end-of-text fits, and pad: int64 [B, max_tokens]."""
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding(length=max_tokens, pad_id=self.end_id)
        encodings = self._tokenizer.encode_batch(list(captions))
        return np.array([[*each.ids[:-1], self.end_id] for each in encodings], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Model:
    """A network to evaluate.

    Attributes:
        name: the name of the run, folder or file.
        network: both encoders of a run or a pair, else only that of images.
        config: sizes of the encoder; ``image_px`` is that of the evaluation.
        digest: of the tensors and of the sizes, equal for the same weights in any layout.
        tokenizer: of the text encoder; None if there is none, and so no texts can be read.
        preprocessing: how images become its input.
    """

    name: str
    network: Network
    config: WeightsConfig
    digest: str
    tokenizer: CaptionTokenizer | None
    preprocessing: Preprocessing = AS_TRAINED

    @property
    def encoder(self) -> Encoder:
        return self.network.encoder

    @property
    def pair(self) -> DualEncoder | None:
        """Both encoders; None if there is only one for images."""
        return self.network if isinstance(self.network, DualEncoder) else None


def load_model(path: Path, *, image_px: int | None = None, tokenizer: Path | None = None) -> Model:
    """Load the network of a finished run, of a folder of ``weights import``, or of a public checkpoint.

    Args:
        path: the folder, or the file of a public checkpoint.
        image_px: resample learned positions for images of this size.
        tokenizer: of the text encoder; None is ``tokenizer.json`` of the run or beside the weights.

    Raises:
        UsageError: there is no such thing at the path, it is incomplete or unsafe, or the size or tokenizer do not fit.
    """
    if not path.exists():
        raise UsageError(f"weights={str(path)!r}: there is no such file or folder")
    description = path / "config.json"
    is_ours = description.is_file() and bool({"budget", "layout_version"} & read_object(description).keys())
    weights = read_weights(path) if is_ours else read_published(path)
    if image_px is not None:
        weights = resampled(weights, image_px)
    found = _run_pair(path, weights, tokenizer) if is_ours else None
    if found is None:
        beside = (path if path.is_dir() else path.parent) / TOKENIZER
        texts = _published_tokenizer(tokenizer or (beside if beside.is_file() else None), weights.config)
        found = with_tensors(empty_network(weights.config), weights.tensors), texts
    network, texts = found
    digest = _digest(weights.config, network.state_dict())
    preprocessing = read_preprocessing(path) or AS_TRAINED
    return Model(path.resolve().name, network, weights.config, digest, texts, preprocessing)


def _published_tokenizer(path: Path | None, config: WeightsConfig) -> CaptionTokenizer | None:
    """Return the tokenizer of a pair of encoders; one of our runs, by its end-of-text, is used as in training.

    Raises:
        UsageError: the file is missing, is no tokenizer, or is that of another text encoder.
    """
    tower = config.text_tower
    if path is None or tower is None:
        return None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise UsageError(f"{path} is not a readable tokenizer.json ({error})") from error
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= tower.vocab_size or tokenizer.id_to_token(tower.end_id) is None:
        raise UsageError(
            f"{path} is not the tokenizer of these weights: its ids end at {largest}, and they have {tower.vocab_size}"
            f" tokens, of which {tower.end_id} ends a text"
        )
    is_ours = tokenizer.token_to_id(END_OF_TEXT) == tower.end_id
    return CaptionTokenizer(tokenizer) if is_ours else PublishedTokenizer(tokenizer, tower.end_id)


def _run_pair(path: Path, weights: Weights, tokenizer: Path | None) -> tuple[Network, CaptionTokenizer | None] | None:
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
    return network, CaptionTokenizer.load(tokenizer or origin.tokenizer)


def _digest(config: WeightsConfig, tensors: Mapping[str, Tensor]) -> str:
    sizes = {key: value for key, value in asdict(config).items() if key not in ("source", "text_tower")}
    found = hashlib.sha256(json.dumps(sizes, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()
