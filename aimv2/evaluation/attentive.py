"""The attentive probe: a classifier on a frozen encoder's features of patches, trained for each setting of a grid.

Letters: G settings, N and B images, I patches, D width, H heads, W head width, K labels of an image, C classes.
"""

import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch import Tensor, nn

from aimv2.base import address
from aimv2.config.evaluation_config import ProbeConfig
from aimv2.data.transfer import NO_LABEL
from aimv2.evaluation.features import Chosen, Splits, Standardised, at_edge, moments, scored
from aimv2.memory.evaluation import ProbeSize

CLIP_NORM = 3.0  # paper Table A2
MIN_LR = 1e-5  # paper Table A2

Setting = tuple[float, float]  # learning rate and weight decay


class AttentiveProbes(nn.Module):
    """Attention pooling with a learned query per head, then a linear classifier for each label; one for each setting.

    Keys and values are projections of the patch features; the query is not projected. The heads' outputs are
    concatenated and go into the classifiers without bias and without an output projection: 2 D^2 + D parameters and the
    classifiers'. All settings have the same initial weights.

    Source: AIM v1 equation 4, ml-aim ``AttentionPoolingClassifier``.
    """

    def __init__(
        self,
        num_settings: int,
        num_heads: int,
        width: int,
        num_labels: int,
        num_classes: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        bound = width**-0.5  # torch's default for linear layers
        G, H, W, D = num_settings, num_heads, width // num_heads, width

        def uniform(*shape: int) -> nn.Parameter:
            drawn = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            return nn.Parameter(drawn.expand(G, *shape).clone())

        query_HW = 0.02 * torch.randn(H, W, generator=generator)
        self.query_GHW = nn.Parameter(query_HW.expand(G, -1, -1).clone())
        self.key_GHWD, self.value_GHWD = uniform(H, W, D), uniform(H, W, D)
        self.classifier_GKCD = uniform(num_labels, num_classes, D)

    def forward(self, feature_BID: Tensor) -> Tensor:
        """Return the class scores of every setting: [G, B, K, C].

        Keys and values are linear in the patches, so q . (W p) = (W' q) . p and sum a W p = W (sum a p). No patch is
        projected, which makes a step many times cheaper than the textbook order with the same result.
        """
        G, H, W, D = self.key_GHWD.shape
        seen_GHD = torch.einsum("ghw,ghwd->ghd", self.query_GHW, self.key_GHWD) * W**-0.5
        score_BXI = seen_GHD.view(G * H, D) @ feature_BID.transpose(1, 2)
        mixed_BGHD = (score_BXI.softmax(dim=2) @ feature_BID).view(-1, G, H, D)
        pooled_GBHW = torch.einsum("bghd,ghwd->gbhw", mixed_BGHD, self.value_GHWD)
        logits_GBX = pooled_GBHW.flatten(2) @ self.classifier_GKCD.flatten(1, 2).transpose(1, 2)
        logits_GBKC: Tensor = logits_GBX.unflatten(2, self.classifier_GKCD.shape[1:3])
        return logits_GBKC

    def only(self, setting: int) -> "AttentiveProbes":
        chosen = copy.copy(self)
        chosen._parameters = {
            name: nn.Parameter(weight.detach()[setting : setting + 1].clone())
            for name, weight in self.named_parameters()
        }
        return chosen

    def clip_gradients(self, max_norm: float) -> None:
        """Scale the gradient of each setting to a norm of at most ``max_norm``, as torch's ``clip_grad_norm_``."""
        gradients = [weight.grad for weight in self.parameters() if weight.grad is not None]
        norm_G = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        scale_G = (max_norm / (norm_G + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient *= scale_G.view(-1, *[1] * (gradient.ndim - 1))


class _Best(NamedTuple):
    quality: tuple[int, float]  # right guesses on validation, and minus the loss there
    setting: Setting
    probe: AttentiveProbes


def attentive_probe(
    splits: Splits,
    config: ProbeConfig,
    *,
    seed: int,
    warmup_epochs: int = 0,
    is_refitted: bool = False,
    device: torch.device | None = None,
    size: ProbeSize | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Chosen:
    """Train a probe for every setting of the grid, select the best on validation, report it on test.

    Features are standardised with the training split's mean and deviation, which is equivalent to the non-affine batch
    norm of ml-aim's probe on frozen features. All settings start from the same weights and see the same batches. The
    best setting has the highest accuracy on validation, and of equal ones the lowest loss. ``is_refitted`` trains it
    again on training and validation images before the test. Memory is bounded by computing in parts (``size``).

    Source: AIMv2 section 4.1 and Table A2. The paper reports the best setting of the grid, apparently selected on the
        test set; here the test set selects nothing.
    """
    device = device or splits.train.feature_NID.device
    statistics = moments(splits.train.feature_NID, device, splits.train.row_N)
    parts = [Standardised(part, *statistics) for part in splits[1:]]
    labels = [part.label_NK.to(device) for part in splits[1:]]
    size = size or size_of(splits, config)

    def trained(num_parts: int, settings: Sequence[Setting]) -> AttentiveProbes:
        given = parts[:num_parts], labels[:num_parts], splits.num_classes
        return _trained(*given, settings, config, size, seed, warmup_epochs, on_step)

    def best(settings: Sequence[Setting]) -> _Best:
        probes = trained(1, settings)
        guess_GNK, nats_GN = _guesses(probes, parts[1], labels[1], size)
        right_G = (guess_GNK == labels[1]).sum(dim=(1, 2)).tolist()
        loss_G = (nats_GN.sum(dim=1) / (labels[1] != NO_LABEL).sum().clamp(min=1)).tolist()
        place = max(range(len(settings)), key=lambda setting: (right_G[setting], -loss_G[setting]))
        return _Best((right_G[place], -loss_G[place]), settings[place], probes.only(place))

    _, (rate, decay), probe = max(map(best, _groups(config, size)), key=lambda group_best: group_best.quality)
    chosen = trained(2, [(rate, decay)]) if is_refitted else probe
    score = scored(_guesses(chosen, parts[2], labels[2], size)[0][0], labels[2])
    settings = {"learning_rate": rate, "weight_decay": decay}
    return Chosen(score, settings, at_edge("learning rate", rate, config.learning_rates))


def size_of(splits: Splits, config: ProbeConfig) -> ProbeSize:
    num_patches, width = splits.train.feature_NID.shape[1:]
    return ProbeSize.of(config, num_patches, width, splits.train.label_NK.shape[1] * splits.num_classes)


def num_steps(splits: Splits, config: ProbeConfig, *, is_refitted: bool = False) -> int:
    """Return the steps of ``attentive_probe``."""
    num_train, num_validation = (len(part.label_NK) for part in splits[1:3])
    num_images = [num_train] * len(_groups(config, size_of(splits, config)))
    num_images += [num_train + num_validation] * is_refitted
    return config.epochs * sum(math.ceil(number / config.batch_size) for number in num_images)


def _groups(config: ProbeConfig, size: ProbeSize) -> list[list[Setting]]:
    """Return the settings of the grid in groups that are trained at once, of about equal size."""
    grid = list(product(config.learning_rates, config.weight_decays))
    number = math.ceil(len(grid) / size.settings_at_once)
    cuts = [len(grid) * part // number for part in range(number + 1)]
    return [grid[start:end] for start, end in pairwise(cuts)]


def _trained(
    parts: Sequence[Standardised],
    labels: Sequence[Tensor],
    num_classes: int,
    grid: Sequence[Setting],
    config: ProbeConfig,
    size: ProbeSize,
    seed: int,
    warmup_epochs: int,
    on_step: Callable[[], None],
) -> AttentiveProbes:
    """Train a probe for each setting on the images of all parts."""
    device, num_rows = labels[0].device, sum(map(len, parts))
    generator, weights_seed = torch.Generator(), address.integer(seed=seed, purpose="probe weights")
    shape = (len(grid), size.num_heads, size.width, labels[0].shape[1], num_classes)
    probes = AttentiveProbes(*shape, generator.manual_seed(weights_seed)).to(device)
    # Views, which the optimizer changes.
    settings = [[weight.detach()[setting] for weight in probes.parameters()] for setting in range(len(grid))]
    groups = [
        {"params": weights, "lr": rate, "weight_decay": decay}
        for weights, (rate, decay) in zip(settings, grid, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)
    last = config.epochs * math.ceil(num_rows / config.batch_size)
    schedules = [_schedule(rate, warmup_epochs / config.epochs) for rate, _ in grid]
    label_NK = torch.cat(list(labels))

    step = 0
    for epoch in range(config.epochs):
        order = address.generator(seed=seed, purpose="probe order", epoch=epoch).permutation(num_rows)
        for rows in torch.from_numpy(order).to(device).split(config.batch_size):
            for group, schedule in zip(optimizer.param_groups, schedules, strict=True):
                group["lr"] = schedule(step / last)
            step += 1
            probes.zero_grad(set_to_none=True)
            num_labels = (label_NK[rows] != NO_LABEL).sum().clamp(min=1)
            for row_B in rows.split(size.images_at_once):
                feature_BID, label_BK = _batch(parts, label_NK, row_B)
                # A sum over settings of each one's mean, so that no gradient depends on another setting.
                nats_GB = _nats(probes(feature_BID), label_BK)
                (nats_GB.sum(dim=1) / num_labels).sum().backward()
            probes.clip_gradients(CLIP_NORM)
            for setting, weights in enumerate(settings):
                for weight, stacked in zip(weights, probes.parameters(), strict=True):
                    weight.grad = None if stacked.grad is None else stacked.grad[setting]
            optimizer.step()
            on_step()
    return probes


def _schedule(rate: float, warmup: float) -> ParamScheduler:
    """Return the learning rate over the training, which begins with a warm-up of this share (Table A2)."""
    cosine = CosineParamScheduler(rate, min(rate, MIN_LR))
    if not warmup:
        return cosine
    return CompositeParamScheduler(
        [LinearParamScheduler(0.0, rate), cosine], lengths=[warmup, 1 - warmup], interval_scaling=["rescaled"] * 2
    )


def _batch(parts: Sequence[Standardised], label_NK: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return features and labels of rows, which count through all parts; rows of one part come before the next's."""
    if len(parts) == 1:
        return parts[0][rows], label_NK[rows]
    first, second = parts
    is_first = rows < len(first)
    early, late = rows[is_first], rows[~is_first]
    features = [part[some] for part, some in ((first, early), (second, late - len(first))) if len(some)]
    return torch.cat(features), label_NK[torch.cat([early, late])]


@torch.no_grad()
def _guesses(probes: AttentiveProbes, part: Standardised, label_NK: Tensor, size: ProbeSize) -> tuple[Tensor, Tensor]:
    """Return each setting's guesses, int64 [G, N, K], and its cross-entropy of each label, [G, N x K]; 0 without."""
    guesses, nats = [], []
    for rows in torch.arange(len(part), device=label_NK.device).split(size.guesses_at_once):
        logits_GBKC = probes(part[rows])
        guesses.append(logits_GBKC.argmax(dim=-1))
        nats.append(_nats(logits_GBKC, label_NK[rows]))
    return torch.cat(guesses, dim=1), torch.cat(nats, dim=1)


def _nats(logits_GBKC: Tensor, label_BK: Tensor) -> Tensor:
    """Return each setting's cross-entropy of each label: [G, B x K]; 0 where there is none."""
    target_GBK = label_BK.expand(len(logits_GBKC), -1, -1)
    return F.cross_entropy(
        logits_GBKC.flatten(0, 2), target_GBK.flatten(), reduction="none", ignore_index=NO_LABEL
    ).view(len(logits_GBKC), -1)
