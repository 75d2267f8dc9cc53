"""Probes: the accuracy of an attentive classifier and of k nearest neighbours on a frozen encoder's features.

Letters: G settings of the grid, B images, I patches, D width, H heads, K head width, C classes.
"""

from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import Tensor, nn

from aimv2 import address
from aimv2.config.run_config import ProbeConfig

CLIP_NORM = 3.0  # paper Table A2
MIN_LR = 1e-5  # paper Table A2
FEATURE_EPS = 1e-6  # ml-aim AttentionPoolingClassifier


class Features(NamedTuple):
    """Frozen features and class numbers of a split: [N, I, D] and int64 [N]."""

    feature_NID: Tensor
    label_N: Tensor


class ProbeResult(NamedTuple):
    """The setting with the best validation accuracy, and its accuracy on the test split."""

    test_accuracy: float
    learning_rate: float
    weight_decay: float


class AttentiveProbe(nn.Module):
    """Attention pooling with a learned query per head, then a linear classifier.

    Keys and values are projections of the patch features; the query is not projected. The heads' outputs are
    concatenated and go into a classifier without bias and without an output projection: 2 D^2 + D parameters and the
    classifier's.

    Source: AIM v1 equation 4, ml-aim ``AttentionPoolingClassifier``.
    """

    def __init__(self, width: int, num_heads: int, num_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = width**-0.5  # torch's default for linear layers
        self.query_HK = nn.Parameter(0.02 * torch.randn(num_heads, width // num_heads, generator=generator))
        self.key_DD = nn.Parameter(torch.empty(width, width).uniform_(-bound, bound, generator=generator))
        self.value_DD = nn.Parameter(torch.empty(width, width).uniform_(-bound, bound, generator=generator))
        self.classifier_CD = nn.Parameter(torch.empty(num_classes, width).uniform_(-bound, bound, generator=generator))


def pooled_logits(probes: list[AttentiveProbe], feature_BID: Tensor) -> Tensor:
    """Return the class scores of every probe: [G, B, C].

    Keys and values are linear in the patches, so q . (W p) = (W' q) . p and sum a W p = W (sum a p). No patch is
    projected, which makes a step many times cheaper than the textbook order with the same result.
    """
    query_GHK = torch.stack([probe.query_HK for probe in probes])
    G, H, K = query_GHK.shape
    D = H * K
    key_GHKD = torch.stack([probe.key_DD for probe in probes]).view(G, H, K, D)
    value_GHKD = torch.stack([probe.value_DD for probe in probes]).view(G, H, K, D)
    classifier_GCD = torch.stack([probe.classifier_CD for probe in probes])

    seen_GHD = torch.einsum("ghk,ghkd->ghd", query_GHK, key_GHKD) * K**-0.5
    score_BIGH = (feature_BID @ seen_GHD.view(G * H, D).T).view(*feature_BID.shape[:2], G, H)
    attention_BXI = score_BIGH.softmax(dim=1).flatten(2).transpose(1, 2)
    mixed_BGHD = (attention_BXI @ feature_BID).view(-1, G, H, D)
    pooled_GBHK = torch.einsum("bghd,ghkd->gbhk", mixed_BGHD, value_GHKD)
    return pooled_GBHK.flatten(2) @ classifier_GCD.transpose(1, 2)


def attentive_probe(
    train: Features, validation: Features, test: Features, num_classes: int, config: ProbeConfig, *, seed: int
) -> ProbeResult:
    """Train a probe for every setting of the grid, select the best on validation, report it on test.

    Features are standardised with the training split's mean and deviation, which is equivalent to the non-affine batch
    norm of ml-aim's probe on frozen features. All settings start from the same weights and see the same batches.

    Source: AIMv2 section 4.1 and Table A2. The paper reports the best setting of the grid, apparently selected on the
        test set; here the test set selects nothing.
    """
    width = train.feature_NID.shape[-1]
    mean = train.feature_NID.mean(dim=(0, 1))
    std = (train.feature_NID.var(dim=(0, 1), correction=0) + FEATURE_EPS).sqrt()
    train, validation, test = (
        Features((part.feature_NID - mean) / std, part.label_N) for part in (train, validation, test)
    )
    device = train.feature_NID.device
    grid = list(product(config.learning_rates, config.weight_decays))
    generator, weights_seed = torch.Generator(), address.integer(seed=seed, purpose="probe weights")
    shape = (width, max(1, width // config.head_dim), num_classes)
    probes = [AttentiveProbe(*shape, generator.manual_seed(weights_seed)).to(device) for _ in grid]
    groups = [
        {"params": list(probe.parameters()), "lr": rate, "weight_decay": decay}
        for probe, (rate, decay) in zip(probes, grid, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)
    num_rows = len(train.label_N)
    num_steps = config.epochs * -(-num_rows // config.batch_size)
    schedules = [CosineParamScheduler(rate, min(rate, MIN_LR)) for rate, _ in grid]

    step = 0
    for epoch in range(config.epochs):
        order = address.generator(seed=seed, purpose="probe order", epoch=epoch).permutation(num_rows)
        for rows in torch.from_numpy(order).to(device).split(config.batch_size):
            for group, schedule in zip(optimizer.param_groups, schedules, strict=True):
                group["lr"] = schedule(step / num_steps)
            logits_GBC = pooled_logits(probes, train.feature_NID[rows])
            target_GB = train.label_N[rows].expand(len(grid), -1)
            # A sum over settings of each one's mean, so that no gradient depends on another setting.
            loss = F.cross_entropy(logits_GBC.flatten(0, 1), target_GB.flatten(), reduction="sum") / len(rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for probe in probes:
                torch.nn.utils.clip_grad_norm_(probe.parameters(), CLIP_NORM)
            optimizer.step()
            step += 1

    validation_G, test_G = _accuracies(probes, validation), _accuracies(probes, test)
    best = max(range(len(grid)), key=lambda setting: validation_G[setting])
    return ProbeResult(test_G[best], *grid[best])


@torch.no_grad()
def _accuracies(probes: list[AttentiveProbe], part: Features) -> list[float]:
    guess_GN = torch.cat([pooled_logits(probes, chunk).argmax(dim=-1) for chunk in part.feature_NID.split(512)], dim=1)
    return [float(value) for value in (guess_GN == part.label_N).double().mean(dim=1)]


def knn_accuracy(train: Features, test: Features, num_neighbours: int) -> float:
    """Return the share of test images whose class wins the vote of the k nearest training images.

    Votes are weighted by inverse cosine distance. With fewer than k training images, all vote.
    """
    from sklearn.neighbors import KNeighborsClassifier  # here, because it is slow to load

    classifier = KNeighborsClassifier(
        n_neighbors=min(num_neighbours, len(train.label_N)), metric="cosine", weights="distance"
    )
    pooled_train, pooled_test = (part.feature_NID.mean(dim=1).cpu().numpy() for part in (train, test))
    classifier.fit(pooled_train, train.label_N.cpu().numpy())
    return float(classifier.score(pooled_test, test.label_N.cpu().numpy()))
