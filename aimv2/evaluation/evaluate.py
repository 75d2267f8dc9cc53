"""Evaluation: the held-out curve during training, the final metrics of a run, the model that plug-ins measure, and
captions that a model writes. Letters: B images, N captions, E decoder width, P pixels a side."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import Pairs
from aimv2.data.prepare import Data
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transfer import TransferSet, transfer_sets
from aimv2.data.transforms import unnormalise
from aimv2.definitions.items import Items
from aimv2.definitions.metrics import METRICS, Metric, not_applicable, reports_of, set_names, unit_of
from aimv2.definitions.objectives import Objective
from aimv2.evaluation import probes, reader, reports
from aimv2.evaluation.features import Encoded
from aimv2.evaluation.held_out import HeldOutPairs, Words, network_inputs, prepare_captions, prepare_pairs, read_pairs
from aimv2.evaluation.parts import Measured, MeasureParts, finite, unsaved
from aimv2.evaluation.prepare import Prepared, Transfer, of_split, prepare_evaluation
from aimv2.model.network import EncoderDecoder, Network
from aimv2.training.world import ALONE, World

# By the names in aimv2/definitions/metrics.py. A held-out curve is that of an objective's first report.
REPORTS: dict[str, Callable[[Any, Encoded, Prepared], dict[str, Measured]]] = {
    "captions": reports.captions,
    "pixels": reports.pixels,
    "retrieval": reports.retrieval,
    "reader": reader.measure,
}
CURVES: dict[str, Callable[[Any, HeldOutPairs, RunConfig], dict[str, float]]] = {
    "captions": reports.captions_curve,
    "pixels": reports.pixels_curve,
    "retrieval": reports.retrieval_curve,
}


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network, and the held-out pairs that its run is evaluated on, as a metric of a plug-in gets them.

    Letters: N images, I patches, D width.

    Attributes:
        network: in evaluation mode, on ``config.device``.
        encoded: the frozen encoder's features, computed once for all metrics.
        prepared: the data that the run is evaluated on.
    """

    network: Network
    config: RunConfig
    encoded: Encoded
    prepared: Prepared

    @property
    def pairs(self) -> HeldOutPairs:
        """The held-out pairs (``evaluation.num_items``), with captions as tokens."""
        return self.prepared.held_out

    def labelled(self) -> Sequence[TransferSet]:
        """Return the labelled images in three splits on which the encoder is probed, with their tasks."""
        return self.prepared.transfer

    @property
    def images(self) -> np.ndarray:
        """The held-out images: uint8 [N, S, S, 3]."""
        return self.pairs.images

    @property
    def items(self) -> np.ndarray:
        """The number of each held-out pair as an item, as ``Items`` takes them: int64 [N]."""
        return self.pairs.item_N

    def features(self, images: np.ndarray | None = None, *, is_causal: bool = False) -> Tensor:
        """Return the encoder's features of images uint8 [N, S, S, 3], the held-out ones by default.

        Args:
            is_causal: causal attention instead of full attention.

        Returns:
            float32 [N, I, D] on the host, or float16 where the config saves half.
        """
        return self.encoded.of(self.images if images is None else images, is_causal=is_causal)


def evaluate(
    model: Network,
    goal: Objective,
    data: Data,
    config: RunConfig,
    part: MeasureParts = unsaved,
    world: World = ALONE,
    transfer: Transfer = transfer_sets,
) -> dict[str, Metric]:
    """Return the run's reports on held-out pairs and the probes of the frozen encoder.

    Metrics that do not apply to the objective or the data are there too, without a value. Several ranks, which have the
    same weights and all call this, share the images in batches of ``images_at_once``, and whole probes, so that all
    values are bitwise those of one process on equal hardware; rank 0 gets all values.

    Args:
        part: called with the names of parts, reports or probes, and the function that measures them; may return values
            that were measured before (``Parts``).
        transfer: returns the tasks of the probes.

    Raises:
        RunFailedError: a metric is not finite.
    """
    prepared = prepare_evaluation(data, config, transfer)
    encoded = Encoded(model.encoder, prepared.held_out.images, config, world)
    measured: dict[str, Measured] = {}

    def measure_report(names: Sequence[str]) -> list[dict[str, Measured]]:
        return [finite(REPORTS[name](model, encoded, prepared)) for name in names]

    for report in reports_of(goal):
        measured |= part([report], measure_report)
    sets: list[TransferSet] = []
    if config.evaluation.sets:
        from aimv2.datasets.labelled import labelled_sets  # here, because it takes long to import

        sets = labelled_sets(config, set_names(config))
    measured |= probes.measure(encoded, [*prepared.transfer, *sets], part)
    trained = TrainedModel(model, config, encoded, prepared)
    for name in config.evaluation.metrics:
        measured |= part([f"metric_{name}"], partial(_measure_plugin, name, trained))
    metrics = {
        name: Metric(
            found.value, unit_of(name), found.how, found.warning, found.items if found.number is None else None
        )
        for name, found in measured.items()
        if len(found.items.item_N) or found.number is not None  # else the data has no such word or question
    }
    return metrics | not_applicable(goal, config)


def _measure_plugin(name: str, model: TrainedModel, _: Sequence[str]) -> list[dict[str, Measured]]:
    plugin = METRICS.plugin_of(name)
    how = f"{len(model.items):,} held-out pairs, by {'' if plugin is None else plugin.id}"
    model.network.eval()
    with torch.no_grad():
        value = METRICS[name].value_of(model)
    if isinstance(value, Items):
        return [{name: Measured(value, how)}]
    return [{name: Measured(Items.of(np.empty(0), np.empty(0)), how, number=value)}]


def held_out_curve(goal: Objective, data: Data, config: RunConfig) -> Callable[[Network], dict[str, float]]:
    """Return the function that measures a point of the held-out curve, on ``evaluation.curve_pairs`` pairs.

    It is that of the objective's first report; an objective without reports has no such curve.
    """
    curve = CURVES.get(goal.reports[0]) if goal.reports else None
    if curve is None:
        return lambda model: {}
    words = Words.of(data.tokenizer, config)
    pairs = of_split(data.held_out, config.evaluation.curve_pairs, config.evaluation)
    held_out = prepare_pairs(pairs, words, config.data.max_bad_rate)
    return lambda model: curve(model, held_out, config)


@torch.no_grad()
def greedy(model: EncoderDecoder, image: Tensor, num_tokens: int) -> Tensor:
    """Write the most likely token at each step: int64 [B, num_tokens]. Full attention in the encoder.

    Keys and values are cached (``Decoder.begin``, ``Decoder.extend``), so a token costs one position.
    """
    model.eval()
    hidden_BE, cache = model.decoder.begin(model.encoder(image))
    chosen = []
    for step in range(num_tokens):
        token_B = model.decoder.text_head(hidden_BE).float().log_softmax(dim=-1).argmax(dim=-1)
        chosen.append(token_B)
        if step + 1 < num_tokens:
            hidden_BE = model.decoder.extend(token_B, cache)
    return torch.stack(chosen, dim=1)


def examples(model: Network, pairs: Pairs, tokenizer: CaptionTokenizer, config: RunConfig) -> list[dict[str, Any]]:
    """Return images (PNG, base64), their dense captions and the model's; pairs that cannot be used are left out.

    If end-of-text is not supervised, as in the released config, the model does not learn to stop. Its caption is then
    cut at the number of tokens of the true one.
    """
    assert isinstance(model, EncoderDecoder), "only a decoder writes captions"
    if not len(pairs):
        return []
    row_N, images, read_captions = read_pairs(pairs, max_bad_rate=1.0)
    captions, image = read_captions["dense"], network_inputs(images, config)
    length_N = prepare_captions(captions, Words.of(tokenizer, config)).supervised_NT.sum(dim=1).tolist()
    is_cut, most = not config.objective.supervise_eos, config.model.max_text_tokens - 1
    written_NT = greedy(model, image.to(config.device), min(max(length_N), most) if is_cut else most).cpu()
    shown = []
    for row, (key, caption) in enumerate(zip(pairs.keys(row_N), captions, strict=True)):
        Image.fromarray(unnormalise(image[row])).save(png := io.BytesIO(), "png")
        encoded = base64.b64encode(png.getvalue()).decode()
        written = tokenizer.decode(written_NT[row][: length_N[row] if is_cut else None].tolist())
        shown.append({"key": key, "reference": caption.text, "written": written, "png": encoded})
    return shown
