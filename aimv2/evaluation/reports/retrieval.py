"""The report on retrieval: of each held-out image's caption among all captions, and the reverse.

Letters: N pairs, S width of the space.
"""

import numpy as np
import torch
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.evaluation.features import Encoded
from aimv2.evaluation.held_out import HeldOutPairs, chunks, network_inputs
from aimv2.evaluation.parts import Measured
from aimv2.evaluation.prepare import Prepared
from aimv2.memory.evaluation import images_at_once
from aimv2.model.dual_encoder import DualEncoder
from aimv2.spec.items import Items
from aimv2.spec.metrics import RECALL_AT
from aimv2.training.device import autocast
from aimv2.training.world import ALONE, World


def measure(model: DualEncoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    """Return the metrics of the report, by name."""
    config = encoded.config
    some = prepared.held_out.first(config.evaluation.num_pairs)
    image_NS, text_NS = embeddings(model, some, config, encoded.world)
    label_N = caption_labels(some.dense.token_NT)
    how = f"{len(label_N):,} held-out pairs, {len(label_N.unique()):,} different dense captions, full attention"
    ways = {"image_to_text": (image_NS, text_NS), "text_to_image": (text_NS, image_NS)}
    return {
        f"{way}_recall_{k}": Measured(Items.of(some.item_N, hits(query_NS, key_NS, label_N, k)), how)
        for way, (query_NS, key_NS) in ways.items()
        for k in RECALL_AT
    }


def curve(model: DualEncoder, held_out: HeldOutPairs, config: RunConfig) -> dict[str, float]:
    """Return the recall at 1 of captions by their images, a point of the held-out curve."""
    image_NS, text_NS = embeddings(model, held_out, config)
    label_N = caption_labels(held_out.dense.token_NT)
    return {"held_out_recall": float(hits(image_NS, text_NS, label_N, k=1).mean())}


@torch.no_grad()
def embeddings(
    model: DualEncoder, data: HeldOutPairs, config: RunConfig, world: World = ALONE
) -> tuple[Tensor, Tensor]:
    """Return the unit vectors of images and dense captions, [N, S] each, with full attention in the encoder.

    Args:
        world: ranks that each embed some of the pairs; all get all vectors.
    """
    model.eval()

    def embedded(rows: np.ndarray) -> Tensor:
        """Return vectors of images and of texts: [2, B, S]."""
        image = network_inputs(data.images[rows], config).to(config.device)
        token_BT, text_len_B = (part[rows].to(config.device) for part in (data.dense.token_NT, data.dense.text_len_N))
        with autocast(config):
            return torch.stack([model.embed_images(image), model.embed_texts(token_BT, text_len_B)])

    rows = chunks(len(data), images_at_once(config))
    image_NS, text_NS = (torch.cat(parts) for parts in zip(*world.divided(rows, embedded), strict=True))
    return image_NS, text_NS


def hits(query_NS: Tensor, key_NS: Tensor, label_N: Tensor, k: int) -> np.ndarray:
    """Return True for queries with a key of their own label among the k nearest, whose mean is the recall: bool [N].

    Args:
        label_N: equal for pairs with equal captions (``caption_labels``).
    """
    label_N = label_N.to(query_NS.device)
    nearest_Nk = (query_NS @ key_NS.T).topk(min(k, len(key_NS)), dim=1).indices
    is_hit_N: np.ndarray = (label_N[nearest_Nk] == label_N[:, None]).any(dim=1).cpu().numpy()
    return is_hit_N


def caption_labels(token_NT: Tensor) -> Tensor:
    """Return a number for each caption, equal for equal captions: int64 [N]."""
    labels: Tensor = torch.unique(token_NT, dim=0, return_inverse=True)[1]
    return labels
