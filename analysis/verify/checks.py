"""Does a trained run do what the paper says? Prefix lengths, masks, losses and predictions.

Letters: B images, I patches in reading order, P values in a patch, T caption tokens, S = 1 + T text positions, L
positions of the decoder's sequence, D and E widths, N held-out pairs, V vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from aimv2.analysis.inference.intervals import Estimate, mean_interval
from aimv2.analysis.inference.items import influence
from aimv2.base import address
from aimv2.config.prefix import prefix_len_at
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import Data
from aimv2.definitions.objectives import Objective, objective
from aimv2.evaluation.features import encode
from aimv2.evaluation.held_out import HeldOutPairs, Words, network_inputs, other_images, prepare_pairs
from aimv2.evaluation.reports import pixel_errors, token_nats
from aimv2.model.network import EncoderDecoder, Network
from aimv2.model.positions import reading_order
from aimv2.objectives.aimv2 import pixel_targets
from aimv2.objectives.base import visible_prefix
from aimv2.objectives.build import implementation_of

NUM_IMAGES = 8  # of training, whose masks and losses are checked
MAX_PAIRS = 1024  # held-out pairs; more would only narrow the intervals
MAX_DRAWS = 4096  # of prefix lengths, in the first training batches
MIN_P = 1e-3  # a correct distribution fails at one seed in a thousand
MIN_EXPECTED = 5.0  # draws in a bin; chi-square's approximation is poor below, so smaller bins are joined
MAX_PLACES = 64  # positions perturbed per image, evenly spread if there are more
FRACTIONS = (0.25, 0.5, 0.75)  # of an image, the prefix behind which patches are predicted
MIN_GAIN = 0.05  # nats/token; with random weights, 12 seeds have intervals between -0.04 and +0.03
AIMV2 = ("aimv2", "caption", "image_only")  # objectives with the paper's losses
LOSSES = {"pixel_loss": "pixels are normalised patch by patch", "text_loss": "caption tokens have their cross-entropy"}
SAME = 1e-4  # relative difference of a loss in float32 from the same in other steps


@dataclass(frozen=True)
class TrainedRun:
    """A finished run and everything that the checks read of it, on a device of this machine and in float32."""

    name: str
    config: RunConfig
    model: Network
    data: Data

    @cached_property
    def objective(self) -> Objective:
        return objective(self.config.objective.name)

    @cached_property
    def batches(self) -> TrainBatches:
        """The batches that the run was trained on."""
        return TrainBatches(self.config, self.data.train, self.data.tokenizer)

    @cached_property
    def first(self) -> Batch:
        """The first images of the first training batch."""
        images = range(min(NUM_IMAGES, self.config.budget.batch_size))
        return self.batches.part(0, images).to(torch.device(self.config.device))

    @cached_property
    def pairs(self) -> HeldOutPairs:
        """At most ``MAX_PAIRS`` held-out pairs, prepared."""
        pairs = self.data.held_out.subset(min(self.config.evaluation.num_pairs, MAX_PAIRS))
        return prepare_pairs(pairs, Words.of(self.data.tokenizer, self.config), self.config.data.max_bad_rate)


class Check(NamedTuple):
    """A statement that is checked, the measured values, and what they must satisfy; ``passes`` is None if it does not
    apply to the run, and then the finding says why."""

    name: str
    passes: bool | None
    finding: str
    criterion: str = ""

    @property
    def verdict(self) -> Literal["PASS", "FAIL", "NOT APPLICABLE"]:
        return "NOT APPLICABLE" if self.passes is None else "PASS" if self.passes else "FAIL"

    def __str__(self) -> str:
        criterion = f" (criterion: {self.criterion})" if self.criterion else ""
        return f"{self.verdict}  {self.name}: {self.finding}{criterion}"


def checks_of(run: TrainedRun) -> list[Check]:
    masks = [check_encoder(run), check_decoder(run)]
    return [check_lengths(run), *masks, *check_losses(run), check_pixels(run), check_captions(run)]


def check_lengths(run: TrainedRun) -> Check:
    """Test the prefix lengths of the first training batches, as the network gets them, by chi-square: with
    ``per='batch'`` a step is one draw, and neighbouring lengths are joined until each bin expects 5 draws."""
    name, config, prefix = "prefix lengths follow their distribution", run.config, run.config.prefix
    attention, num_patches = config.model.encoder.attention, config.model.num_patches
    num_steps = config.budget.num_steps
    if attention != "prefix" and "pixels" not in run.objective.reports:
        return Check(name, None, f"nothing reads them with {attention} attention in the encoder and no pixel loss")
    steps = range(min(num_steps, -(-MAX_DRAWS // config.budget.batch_size)))
    drawn_SB = np.stack([run.batches[step].prefix_len_B.numpy() for step in steps])
    drawn_N = drawn_SB[:, 0] if prefix.per == "batch" else drawn_SB.ravel()
    # A curriculum's distribution changes from step to step.
    pmf_I = np.mean([prefix.pmf(num_patches, step / num_steps) for step in steps], axis=0)
    count_I = np.bincount(drawn_N, minlength=num_patches + 1)[1 : num_patches + 1]
    draws = f"{len(drawn_N):,} {'steps' if prefix.per == 'batch' else 'samples'}, prefix.law={prefix.law}"
    if num_impossible := len(drawn_N) - int(count_I[pmf_I > 0].sum()):
        return Check(name, False, f"{num_impossible:,} draws have a length of probability 0; {draws}", "none")
    if (pmf_I > 0).sum() == 1:
        return Check(name, True, f"all draws are {pmf_I.argmax() + 1} of {num_patches} patches; {draws}", "that length")
    count_I, expected_I = count_I[pmf_I > 0], len(drawn_N) * pmf_I[pmf_I > 0]
    starts = [0]  # of bins
    for place in range(len(expected_I)):
        if expected_I[starts[-1] : place].sum() >= MIN_EXPECTED:
            starts.append(place)
    if expected_I[starts[-1] :].sum() < MIN_EXPECTED:
        starts.pop()
    if len(starts) < 2:
        return Check(name, None, f"too few draws for a test; {draws}")
    test = stats.chisquare(np.add.reduceat(count_I, starts), np.add.reduceat(expected_I, starts))
    finding = f"chi-square {test.statistic:.1f} on {len(starts) - 1} degrees of freedom, p = {test.pvalue:.3g}; {draws}"
    return Check(name, bool(test.pvalue >= MIN_P), finding, f"p >= {MIN_P:g}")


# The effect of perturbing one position of the images: the largest change where there must be none, and the number of
# outputs that had to change and did not.
Reach = tuple[float, int]


@torch.no_grad()
def check_encoder(run: TrainedRun) -> Check:
    """Perturb each patch under the mask of training: the outputs that may see it (all of a patch in the prefix, those
    from the patch on of one after it) must change, and no other."""
    name, config, encoder = "the encoder's mask leaks nothing", run.config.model, run.model.encoder
    image, prefix_len_B = run.first.image, visible_prefix(config, run.first.prefix_len_B)
    if prefix_len_B is None:
        return Check(name, None, "bidirectional attention in training hides nothing")
    before_BID = encoder(image, prefix_len_B)
    pos_I = torch.arange(config.num_patches, device=image.device)
    reaches = []
    for place in _places(config.num_patches):
        changed, (rows, columns) = image.clone(), _pixels(run, place)
        changed[:, :, rows, columns] += _noise(changed[:, :, rows, columns], place)
        may_see_BI = (pos_I >= place) | (place < prefix_len_B)[:, None]
        reaches.append(_reach(before_BID, encoder(changed, prefix_len_B), ~may_see_BI))
    return _judged(name, reaches, len(image), f"{config.encoder.attention} attention, {config.patch_order} order")


@torch.no_grad()
def check_decoder(run: TrainedRun) -> Check:
    """Perturb image features and caption tokens: nothing before them may change, all from them on must; not padding."""
    name, config, batch = "the decoder's mask leaks nothing", run.config.model, run.first
    if not isinstance(run.model, EncoderDecoder):
        return Check(name, None, f"objective {run.config.objective.name} has no decoder")
    decoder, is_text_first = run.model.decoder, config.decoder.order == "text_first"
    features_BID = run.model.encoder(batch.image, visible_prefix(config, batch.prefix_len_B))
    token_BT = batch.token_BT if hasattr(decoder, "text_head") else batch.token_BT[:, :0]
    num_text = 1 + token_BT.shape[1] if hasattr(decoder, "text_head") else 0  # BOS and the tokens
    first_patch, bos = (num_text, 0) if is_text_first else (0, config.num_patches)
    pos_L = torch.arange(config.num_patches + num_text, device=token_BT.device)

    def decode(features_BID: Tensor, token_BT: Tensor) -> Tensor:
        image_BIE, text_BSE = decoder(features_BID, token_BT, batch.text_len_B)
        return torch.cat([text_BSE, image_BIE] if is_text_first else [image_BIE, text_BSE], dim=1)

    def reaches() -> Iterator[Reach]:
        before_BLE = decode(features_BID, token_BT)
        for place in _places(config.num_patches):
            changed = features_BID.clone()
            changed[:, place] += _noise(changed[:, place], place)
            yield _reach(before_BLE, decode(changed, token_BT), (pos_L < first_patch + place).expand(len(changed), -1))
        for place in _places(min(token_BT.shape[1], int(batch.text_len_B.min()))):
            changed = token_BT.clone()
            changed[:, place] = (changed[:, place] + 1) % config.vocab_size
            yield _reach(before_BLE, decode(features_BID, changed), (pos_L < bos + 1 + place).expand(len(changed), -1))

    return _judged(name, list(reaches()), len(batch.image), config.decoder.order.replace("_", " "))


def _judged(name: str, reaches: list[Reach], num_images: int, setting: str) -> Check:
    leaks, num_unreached = zip(*reaches, strict=True)
    largest = float(np.max(leaks))  # not max(), which may drop a NaN
    finding = (
        f"{num_images * len(reaches):,} perturbations, largest leak {largest:.3g}, {sum(num_unreached):,} expected"
        f" changes missing; {setting}"
    )
    passes = largest == 0 and not any(num_unreached)
    return Check(name, passes, finding, "leak 0, and every output that may see a change changes")


def _reach(before_BLD: Tensor, after_BLD: Tensor, hidden_BL: Tensor) -> Reach:
    """Compare outputs: no change where the perturbation is hidden, a change everywhere else."""
    change_BL = (after_BLD - before_BLD).abs().amax(dim=-1)
    leak = float(torch.where(hidden_BL, change_BL, 0).max())
    return leak, int((~hidden_BL & ~(change_BL > 0)).sum())


def _places(num_positions: int) -> list[int]:
    """Return all positions, or ``MAX_PLACES`` spread evenly over them, first and last included."""
    places = np.linspace(0, num_positions - 1, min(num_positions, MAX_PLACES)).round()
    return [int(place) for place in np.unique(places)]


def _noise(like: Tensor, place: int) -> Tensor:
    """Return normal noise that depends on the place alone."""
    drawn = address.generator(seed=0, purpose="verify perturbation", sample_id=place).standard_normal(like.shape)
    return torch.from_numpy(drawn).to(like)


@torch.no_grad()
def check_losses(run: TrainedRun) -> list[Check]:
    """Compute both losses of a training batch from their definition, patch by patch and token by token.

    A patch after the prefix is predicted from those before it, and its values are normalised by their own mean and
    standard deviation (paper, section 2.2; the variance is unbiased, plus 1e-6).
    """
    config, goal, batch = run.config.model, run.config.objective, run.first
    reductions = (goal.pixel_targets, goal.pixel_values, goal.pixel_patches, goal.text_tokens)
    if goal.name not in AIMV2 or reductions != ("standardised", "mean", "batch", "batch"):
        return [Check(name, None, f"objective {goal.name} has other losses or reductions") for name in LOSSES.values()]
    assert isinstance(run.model, EncoderDecoder)
    trained = implementation_of(run.objective)(run.model, run.config)(batch).terms
    prefix_len_B = visible_prefix(config, batch.prefix_len_B)
    image_BIE, text_BSE = run.model(batch.image, batch.token_BT, prefix_len_B, batch.text_len_B)
    defined: dict[str, list[float]] = {name: [] for name in LOSSES}
    if "pixel_loss" in trained:
        predicted_BIP = run.model.decoder.pixel_head(image_BIE).double().cpu().numpy()
        for row, prefix_len in enumerate(batch.prefix_len_B.tolist()):
            for place in range(prefix_len, config.num_patches):
                rows, columns = _pixels(run, place)
                patch_P = batch.image[row, :, rows, columns].permute(1, 2, 0).double().cpu().numpy().ravel()
                target_P = (patch_P - patch_P.mean()) / np.sqrt(patch_P.var(ddof=1) + 1e-6)
                defined["pixel_loss"].append(float(np.mean((predicted_BIP[row, place - 1] - target_P) ** 2)))
    if "text_loss" in trained:
        logits_BSV = run.model.decoder.text_head(text_BSE).double().cpu().numpy()
        for row, place in (divmod(number, batch.token_BT.shape[1]) for number in batch.supervised_N.tolist()):
            logits_V = logits_BSV[row, place]
            defined["text_loss"].append(float(np.logaddexp.reduce(logits_V) - logits_V[batch.token_BT[row, place]]))
    checks = []
    for term, name in LOSSES.items():
        if term not in trained:
            checks.append(Check(name, None, f"objective {goal.name} has no such loss"))
            continue
        loss, in_training = float(np.mean(defined[term])), float(trained[term])
        finding = f"{loss:.6f} over {len(defined[term]):,} by definition, {in_training:.6f} in training"
        checks.append(Check(name, bool(np.isclose(loss, in_training, rtol=SAME)), finding, f"equal within {SAME:g}"))
    return checks


def _pixels(run: TrainedRun, place: int) -> tuple[slice, slice]:
    """Return the rows and the columns of pixels of the patch at a place in reading order."""
    config = run.config.model
    raster = reading_order(config.patch_order, config.grid) or range(config.num_patches)
    top, left = (config.patch_px * index for index in divmod(raster[place], config.grid))
    return slice(top, top + config.patch_px), slice(left, left + config.patch_px)


def check_pixels(run: TrainedRun) -> Check:
    """Compare the error behind three prefixes with that of predicting each patch's own mean, which is 0 normalised."""
    name, config = "predicted pixels beat each patch's mean", run.config
    if "pixels" not in run.objective.reports or config.objective.pixel_targets != "standardised":
        return Check(name, None, f"objective {config.objective.name} predicts no normalised pixels")
    assert isinstance(run.model, EncoderDecoder)
    target_NIP = pixel_targets(network_inputs(run.pairs.images, config), config)
    texts, passes = [], True
    for fraction in FRACTIONS:
        prefix_len = prefix_len_at(fraction, config.model.num_patches)
        error_N = pixel_errors(run.model, run.pairs, fraction, config)
        mean_N = target_NIP[:, prefix_len:].square().mean(dim=(1, 2)).double().numpy()
        difference = clustered_mean(error_N - mean_N, np.ones(len(error_N)), run.pairs.item_N)
        passes &= difference.high < 0
        texts.append(f"prefix {fraction:g}: {error_N.mean():.3f} against {mean_N.mean():.3f} ({difference.text()})")
    finding = f"{len(run.pairs):,} held-out images, {'; '.join(texts)}"
    return Check(name, passes, finding, "the difference below 0 with its 95 % interval, at every prefix")


def check_captions(run: TrainedRun) -> Check:
    """Compare the captions' cross-entropy given their own image and given one with another caption."""
    name, config = "captions depend on their image", run.config
    if "captions" not in run.objective.reports or config.model.decoder.order == "text_first":
        return Check(name, None, "this network predicts no captions from an image")
    assert isinstance(run.model, EncoderDecoder)
    dense, features_NID = run.pairs.dense, encode(run.model.encoder, run.pairs.images, config)
    matched_N, mismatched_N = (
        token_nats(run.model, features_NID, dense, config, image_of_N=rows).sum(dim=1).double().numpy()
        for rows in (None, other_images(dense))
    )
    count_N = dense.supervised_NT.sum(dim=1).double().numpy()
    difference = clustered_mean(mismatched_N - matched_N, count_N, run.pairs.item_N)
    matched, mismatched = (nats_N.sum() / count_N.sum() for nats_N in (matched_N, mismatched_N))
    finding = f"{matched:.3f} nats/token with their own image, {mismatched:.3f} with another ({difference.text()})"
    return Check(name, difference.low > MIN_GAIN, finding, f"difference above {MIN_GAIN:g} with its 95 % interval")


def clustered_mean(total_N: np.ndarray, weight_N: np.ndarray, cluster_N: np.ndarray) -> Estimate:
    """Estimate sum(total) / sum(weight) with an interval in which clusters, not rows, are independent, as variants of
    one concept (the skin tones of an emoji) are near copies. Source: Cochran 1977, chapters 6 and 9A."""
    total_C, weight_C = (pd.Series(part_N).groupby(cluster_N).sum().to_numpy() for part_N in (total_N, weight_N))
    return mean_interval(total_C.sum() / weight_C.sum() + influence(total_C, weight_C))
