"""The frozen network that is evaluated: of a finished run, of imported weights or of a public checkpoint.

Letters: B texts, T tokens.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.config.serialization import from_dict
from aimv2.data.tokenizer import END_OF_TEXT, CaptionTokenizer
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network
from aimv2.runs.record import RunFolder
from aimv2.tools.weights.contents import Weights, WeightsConfig, resampled
from aimv2.tools.weights.files import read_object, read_tensors
from aimv2.tools.weights.own import FILE, load_network, read_weights
from aimv2.tools.weights.published import read_published

TOKENIZER = "tokenizer.json"


class Texts:
    """The tokenizer of a text encoder.

    One with the end-of-text of our runs is used as in training. Any other, such as LiT's, adds its own special tokens,
    by the rule in its file.
    """

    def __init__(self, path: Path, *, max_tokens: int, end_id: int, vocab_size: int) -> None:
        """Read a ``tokenizer.json``.

        Args:
            max_tokens: T.
            end_id: end-of-text, at which the text encoder is pooled.
            vocab_size: of the text encoder.

        Raises:
            UsageError: the file is missing, is not a tokenizer, or is that of another text encoder.
        """
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception
            raise UsageError(f"{path} is not a readable tokenizer.json ({error})") from error
        largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= vocab_size or self._tokenizer.id_to_token(end_id) is None:
            raise UsageError(
                f"{path} is not the tokenizer of these weights: its ids end at {largest}, and they have {vocab_size}"
                f" tokens, of which {end_id} ends a text"
            )
        self._max_tokens, self._end_id = max_tokens, end_id
        is_ours = self._tokenizer.token_to_id(END_OF_TEXT) == end_id
        self._ours = CaptionTokenizer(self._tokenizer) if is_ours else None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens, int64 [B, T], padded with end-of-text, and the number of them up to the first: int64 [B]."""
        if self._ours is not None:
            token_BT = self._ours.encode(texts, self._max_tokens)
        else:
            token_BT = np.full((len(texts), self._max_tokens), self._end_id, dtype=np.int64)
            for row, encoding in zip(token_BT, self._tokenizer.encode_batch(list(texts)), strict=True):
                ids = encoding.ids[: self._max_tokens]
                row[: len(ids)] = ids
            token_BT[:, -1] = self._end_id  # of a text that is cut
        return token_BT, (token_BT == self._end_id).argmax(axis=1) + 1


@dataclass(frozen=True, eq=False)
class Model:
    """A network to evaluate.

    Attributes:
        name: the name of the run, folder or file.
        config: sizes of the encoder; ``image_px`` is that of the evaluation.
        digest: of the tensors and of the sizes, equal for the same weights in any layout.
        texts: the tokenizer of a pair of encoders; None if there is none.
        no_texts: why there are no texts.
    """

    name: str
    network: Network
    config: WeightsConfig
    digest: str
    texts: Texts | None
    no_texts: str

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
    run = _finished_run(path)
    weights = read_weights(path) if run or _is_ours(path) else read_published(path)
    if image_px is not None:
        weights = resampled(weights, image_px)
    network = load_network(weights) if run is None else _network_of_run(run, weights)
    texts, no_texts = None, f"{path} has an image encoder but no text encoder"
    if isinstance(network, DualEncoder):
        beside = run.file(TOKENIZER) if run else (path if path.is_dir() else path.parent) / TOKENIZER
        texts, no_texts = _texts(network, weights.config, tokenizer or beside)
    tensors = network.state_dict() if isinstance(network, DualEncoder) else weights.tensors
    return Model(path.resolve().name, network.eval(), weights.config, _digest(weights.config, tensors), texts, no_texts)


def _is_ours(path: Path) -> bool:
    return (path / "config.json").is_file() and "layout_version" in read_object(path / "config.json")


def _finished_run(path: Path) -> RunFolder | None:
    where = path / "config.json"
    if not where.is_file() or "budget" not in read_object(where):
        return None
    folder = path.resolve()  # the folder's name is the run's
    return RunFolder(folder.parent, folder.name)


def _network_of_run(run: RunFolder, weights: Weights) -> Network:
    """Return the run's network: both encoders if it has two, also of objectives that no published layout can express.

    Args:
        weights: of the run, whose encoder has been checked and may be resampled.
    """
    tensors = read_tensors(run.file(FILE))
    if "similarity.logit_scale" not in tensors:
        return load_network(weights)
    model = replace(from_dict(read_object(run.path / "config.json")).model, image_px=weights.config.image_px)
    bias = 0.0 if "similarity.logit_bias" in tensors else None
    with torch.device("meta"):
        network = DualEncoder(model, temperature=1.0, bias=bias)
    encoder = {name: value for name, value in weights.tensors.items() if name.startswith("encoder.")}
    copies = {name: value.clone() for name, value in (tensors | encoder).items()}  # a memory-mapped file may change
    try:
        network.load_state_dict(copies, strict=True, assign=True)
    except RuntimeError as error:
        raise UsageError(f"{run.path}: the tensors are not those of the run's config: {error}") from error
    return network


def _texts(network: DualEncoder, config: WeightsConfig, path: Path) -> tuple[Texts | None, str]:
    """Return the tokenizer at a path, or None and the reason if there is no file."""
    if not path.is_file():
        return None, f"there is no {path}, the tokenizer of the text encoder; give tokenizer=PATH"
    tower = network.text_tower
    vocab_size, max_tokens = len(tower.text_embed.weight), len(tower.text_pos_embed)
    end_id = config.text_tower.end_id if config.text_tower else CaptionTokenizer.load(path).end_id
    assert end_id is not None, "a tokenizer without end-of-text is not loaded"
    return Texts(path, max_tokens=max_tokens, end_id=end_id, vocab_size=vocab_size), ""


def _digest(config: WeightsConfig, tensors: dict[str, Tensor]) -> str:
    sizes = {key: value for key, value in asdict(config).items() if key not in ("source", "text_tower")}
    found = hashlib.sha256(json.dumps(sizes, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()
