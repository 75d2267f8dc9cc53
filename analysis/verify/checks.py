"""Does a trained run do what the paper says? Prefix lengths, masks, losses, predictions; and a report's numbers.

Letters: B images, I patches in reading order, P values in a patch, T caption tokens, S = 1 + T text positions, L
positions of the decoder's sequence, D and E widths, N held-out pairs, V vocabulary.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from aimv2.analysis.evidence.tables import LIMITS
from aimv2.analysis.inference.intervals import UNLIMITED, Estimate, mean_interval
from aimv2.analysis.inference.items import influence
from aimv2.analysis.verify.trained_run import TrainedRun
from aimv2.base import address
from aimv2.base.errors import UsageError
from aimv2.config.prefix import prefix_len_at
from aimv2.evaluation.features import encode
from aimv2.evaluation.held_out import network_inputs, other_images
from aimv2.evaluation.losses import pixel_errors, token_nats
from aimv2.model.network import EncoderDecoder
from aimv2.model.positions import reading_order
from aimv2.objectives.aimv2 import pixel_targets
from aimv2.objectives.base import visible_prefix
from aimv2.objectives.build import implementation_of

MAX_DRAWS = 4096  # of prefix lengths, in the first training batches
MIN_P = 1e-3  # a correct distribution fails at one seed in a thousand
MIN_EXPECTED = 5.0  # draws in a bin; chi-square's approximation is poor below, so smaller bins are joined
MAX_PLACES = 64  # positions perturbed per image, evenly spread if there are more
FRACTIONS = (0.25, 0.5, 0.75)  # of an image, the prefix behind which patches are predicted
MIN_GAIN = 0.05  # nats/token; with random weights, 12 seeds have intervals between -0.04 and +0.03
AIMV2 = ("aimv2", "caption", "image_only")  # objectives with the paper's losses
LOSSES = {"pixel_loss": "pixels are normalised patch by patch", "text_loss": "caption tokens have their cross-entropy"}
SAME = 1e-4  # relative difference of a loss in float32 from the same in other steps
ROUNDED = 1e-6  # relative difference of a number from the same with the digits of a report


class Check(NamedTuple):
    """A check and its outcome.

    Attributes:
        name: the statement that is checked.
        passes: None if the check does not apply to the run.
        finding: the measured values, or why the check does not apply.
        criterion: what the values must satisfy.
    """

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


def checks_of(run: TrainedRun, report: Path) -> list[Check]:
    """Run all checks.

    Args:
        report: the folder of a report with its records, whose numbers are computed again.
    """
    learned = [check_pixels(run), check_captions(run)]
    return [
        check_lengths(run),
        check_encoder(run),
        check_decoder(run),
        *check_losses(run),
        *learned,
        check_report(report),
    ]


def check_lengths(run: TrainedRun) -> Check:
    """Test the prefix lengths of the first training batches, as the network gets them, by chi-square.

    With ``per='batch'`` a step is one draw. Neighbouring lengths are joined until each bin expects 5 draws.
    """
    name, config, prefix = "prefix lengths follow their distribution", run.config, run.config.prefix
    attention, num_patches, num_steps = (
        config.model.encoder.attention,
        config.model.num_patches,
        config.budget.num_steps,
    )
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
    starts = [0]
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
    """Perturb each patch under the mask of training. Outputs before a patch outside the prefix must not change, and all
    outputs that may see the patch must: every output if it lies in the prefix, those from it on otherwise."""
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
    """Perturb image features and caption tokens. Nothing before them in the sequence may change; their own position and
    all after it must. Padding is left as it is."""
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
        own, other = float(np.mean(defined[term])), float(trained[term])
        finding = f"{own:.6f} over {len(defined[term]):,} by definition, {other:.6f} in training"
        checks.append(Check(name, bool(np.isclose(own, other, rtol=SAME)), finding, f"equal within {SAME:g}"))
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
    own_N, other_N = (
        token_nats(run.model, features_NID, dense, config, image_of_N=rows).sum(dim=1).double().numpy()
        for rows in (None, other_images(dense))
    )
    count_N = dense.supervised_NT.sum(dim=1).double().numpy()
    difference = clustered_mean(other_N - own_N, count_N, run.pairs.item_N)
    own, other = (nats_N.sum() / count_N.sum() for nats_N in (own_N, other_N))
    finding = f"{own:.3f} nats/token with their own image, {other:.3f} with another ({difference.text()})"
    return Check(name, difference.low > MIN_GAIN, finding, f"difference above {MIN_GAIN:g} with its 95 % interval")


def clustered_mean(total_N: np.ndarray, weight_N: np.ndarray, cluster_N: np.ndarray) -> Estimate:
    """Estimate sum(total) / sum(weight) with an interval in which clusters, not rows, are independent.

    Variants of one concept (the skin tones of an emoji) are near copies, and counting them as independent would make
    the interval too narrow.

    Source: Cochran 1977, chapters 6 (ratios) and 9A (clusters).
    """
    total_C, weight_C = (pd.Series(part_N).groupby(cluster_N).sum().to_numpy() for part_N in (total_N, weight_N))
    return mean_interval(total_C.sum() / weight_C.sum() + influence(total_C, weight_C))


def check_report(folder: Path) -> Check:
    """Compute the means over seeds of a report, with Student's intervals, again from its records by pandas and scipy.

    Raises:
        UsageError: the report or its records cannot be read.
    """
    name = f"means of {folder.name} follow from its records"
    if not folder.is_dir():
        return Check(name, None, f"there is no report {folder}; name one with report=")
    try:
        claimed = json.loads((folder / "report.json").read_text())["numbers"]["means"]
        records = pd.read_parquet(folder / "records.parquet", columns=["arm", "seed", "metrics"])
        rows = [(arm, row["metric"], row["value"]) for arm, _, metrics in records.to_numpy() for row in metrics]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"report={str(folder)!r} has no report.json and records.parquet that can be read") from error
    values = pd.DataFrame(rows, columns=["arm", "metric", "value"]).dropna()
    deviations = []
    for (arm, metric), value in values.groupby(["arm", "metric"])["value"]:
        if (number := claimed.get(metric, {}).get(arm)) is None:
            continue
        again = {"mean": value.mean()}
        if number["low"] is not None:
            ends = stats.t.interval(number["level"], len(value) - 1, value.mean(), stats.sem(value))
            again |= dict(zip(("low", "high"), np.clip(ends, *LIMITS.get(number["unit"], UNLIMITED)), strict=True))
        deviations += [abs(number[key] - mean) / value.abs().max() for key, mean in again.items()]
    largest = max(deviations, default=np.inf)
    finding = f"{len(deviations):,} numbers, largest relative deviation {largest:.1g}"
    return Check(name, bool(largest < ROUNDED), finding, f"equal within {ROUNDED:g}")
