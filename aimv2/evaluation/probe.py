"""Probes: the accuracy of an attentive classifier and of k nearest neighbours on a frozen encoder's features.

Letters: G settings of the grid, N and B images, I patches, D width, H heads, W head width, K labels of an image, C
classes, M nearest neighbours.
"""

import copy
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import Tensor, nn

from aimv2 import address
from aimv2.config.run_config import ProbeConfig
from aimv2.data.transfer import NO_LABEL

CLIP_NORM = 3.0  # paper Table A2
MIN_LR = 1e-5  # paper Table A2
FEATURE_EPS = 1e-6  # ml-aim AttentionPoolingClassifier
NO_DISTANCE = 1e-12  # cosine distances below are rounding


class Features(NamedTuple):
    """Frozen features of a split, [N, I, D], and its labels, int64 [N, K] with ``NO_LABEL`` where there is none."""

    feature_NID: Tensor
    label_NK: Tensor


class Score(NamedTuple):
    """Right guesses and labels of each test image: int64 [N] each."""

    num_right_N: np.ndarray
    num_labels_N: np.ndarray


class ProbeResult(NamedTuple):
    """The setting that is best on validation, and its score on the test split."""

    score: Score
    learning_rate: float
    weight_decay: float


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
        width: int,
        num_heads: int,
        num_labels: int,
        num_classes: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        bound = width**-0.5  # torch's default for linear layers

        def uniform(*shape: int) -> nn.Parameter:
            drawn = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            return nn.Parameter(drawn.expand(num_settings, *shape).clone())

        query_HW = 0.02 * torch.randn(num_heads, width // num_heads, generator=generator)
        self.query_GHW = nn.Parameter(query_HW.expand(num_settings, -1, -1).clone())
        self.key_GHWD = uniform(num_heads, width // num_heads, width)
        self.value_GHWD = uniform(num_heads, width // num_heads, width)
        self.classifier_GKCD = uniform(num_labels, num_classes, width)

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
        """Return the probe of one setting."""
        chosen = copy.copy(self)
        chosen._parameters = {
            name: nn.Parameter(weight.detach()[setting : setting + 1]) for name, weight in self.named_parameters()
        }
        return chosen

    def settings(self) -> list[list[Tensor]]:
        """Return the weights of each setting, as views that an optimizer can change."""
        return [[weight.detach()[setting] for weight in self.parameters()] for setting in range(len(self.query_GHW))]

    def clip_gradients(self, max_norm: float) -> None:
        """Scale the gradient of each setting to a norm of at most ``max_norm``, as torch's ``clip_grad_norm_``."""
        gradients = [weight.grad for weight in self.parameters() if weight.grad is not None]
        norm_G = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        scale_G = (max_norm / (norm_G + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient *= scale_G.view(-1, *[1] * (gradient.ndim - 1))


def attentive_probe(
    train: Features, validation: Features, test: Features, num_classes: int, config: ProbeConfig, *, seed: int
) -> ProbeResult:
    """Train a probe for every setting of the grid, select the best on validation, report it on test.

    Features are standardised with the training split's mean and deviation, which is equivalent to the non-affine batch
    norm of ml-aim's probe on frozen features. All settings start from the same weights and see the same batches. The
    best setting has the highest accuracy on validation, and of equal ones the lowest loss.

    Source: AIMv2 section 4.1 and Table A2. The paper reports the best setting of the grid, apparently selected on the
        test set; here the test set selects nothing.
    """
    width = train.feature_NID.shape[-1]
    mean = train.feature_NID.mean(dim=(0, 1))
    std = (train.feature_NID.var(dim=(0, 1), correction=0) + FEATURE_EPS).sqrt()
    train, validation, test = (
        Features((part.feature_NID - mean) / std, part.label_NK) for part in (train, validation, test)
    )
    device = train.feature_NID.device
    grid = list(product(config.learning_rates, config.weight_decays))
    generator, weights_seed = torch.Generator(), address.integer(seed=seed, purpose="probe weights")
    num_heads = max(1, width // config.head_dim)
    shape = (len(grid), width, num_heads, train.label_NK.shape[1], num_classes)
    probes = AttentiveProbes(*shape, generator.manual_seed(weights_seed)).to(device)
    settings = probes.settings()
    groups = [
        {"params": weights, "lr": rate, "weight_decay": decay}
        for weights, (rate, decay) in zip(settings, grid, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)
    num_rows = len(train.label_NK)
    num_steps = config.epochs * -(-num_rows // config.batch_size)
    schedules = [CosineParamScheduler(rate, min(rate, MIN_LR)) for rate, _ in grid]

    step = 0
    for epoch in range(config.epochs):
        order = address.generator(seed=seed, purpose="probe order", epoch=epoch).permutation(num_rows)
        for rows in torch.from_numpy(order).to(device).split(config.batch_size):
            for group, schedule in zip(optimizer.param_groups, schedules, strict=True):
                group["lr"] = schedule(step / num_steps)
            step += 1
            probes.zero_grad(set_to_none=True)
            # A sum over settings of each one's mean, so that no gradient depends on another setting.
            _losses(probes(train.feature_NID[rows]), train.label_NK[rows]).sum().backward()
            probes.clip_gradients(CLIP_NORM)
            for setting, weights in enumerate(settings):
                for weight, stacked in zip(weights, probes.parameters(), strict=True):
                    weight.grad = None if stacked.grad is None else stacked.grad[setting]
            optimizer.step()

    with torch.no_grad():
        logits_GNKC = _logits(probes, validation)
        right_G = (logits_GNKC.argmax(dim=-1) == validation.label_NK).sum(dim=(1, 2)).tolist()
        loss_G = _losses(logits_GNKC, validation.label_NK).tolist()
        best = max(range(len(grid)), key=lambda setting: (right_G[setting], -loss_G[setting]))
        guess_NK = _logits(probes.only(best), test)[0].argmax(dim=-1)
    return ProbeResult(_score(guess_NK, test.label_NK), *grid[best])


def _logits(probes: AttentiveProbes, part: Features) -> Tensor:
    return torch.cat([probes(chunk) for chunk in part.feature_NID.split(256)], dim=1)


def _losses(logits_GBKC: Tensor, label_BK: Tensor) -> Tensor:
    """Return each setting's mean cross-entropy over the labels: [G]; 0 if there are none."""
    target_GBK = label_BK.expand(len(logits_GBKC), -1, -1)
    nats_GX = F.cross_entropy(
        logits_GBKC.flatten(0, 2), target_GBK.flatten(), reduction="none", ignore_index=NO_LABEL
    ).view(len(logits_GBKC), -1)
    return nats_GX.sum(dim=1) / (label_BK != NO_LABEL).sum().clamp(min=1)


def _score(guess_NK: Tensor, label_NK: Tensor) -> Score:
    is_label_NK = label_NK != NO_LABEL
    num_right_N = ((guess_NK == label_NK) & is_label_NK).sum(dim=1)
    return Score(num_right_N.cpu().numpy(), is_label_NK.sum(dim=1).cpu().numpy())


def knn_score(train: Features, test: Features, num_classes: int, num_neighbours: int) -> Score:
    """Score the votes of the k nearest training images, for each label of their own.

    Votes are weighted by inverse cosine distance between mean features; images at distance 0 outvote all others, and
    those without the label do not vote. With fewer than k training images, all vote.
    """
    unit_train, unit_test = (F.normalize(part.feature_NID.mean(dim=1).double(), dim=1) for part in (train, test))
    num_neighbours = min(num_neighbours, len(unit_train))
    guesses = []
    for chunk_BD in unit_test.split(1024):
        similarity_BM, row_BM = (chunk_BD @ unit_train.T).topk(num_neighbours, dim=1)
        vote_BM = 1 / (1 - similarity_BM).clamp(min=NO_DISTANCE)
        label_BMK = train.label_NK[row_BM]
        votes_BKC = vote_BM.new_zeros(len(chunk_BD), label_BMK.shape[2], num_classes + 1)  # the last is for no label
        where_BKM = torch.where(label_BMK == NO_LABEL, num_classes, label_BMK).transpose(1, 2)
        votes_BKC.scatter_add_(2, where_BKM, vote_BM[:, None].expand_as(where_BKM))
        guesses.append(votes_BKC[..., :num_classes].argmax(dim=-1))
    return _score(torch.cat(guesses), test.label_NK)
