"""Zero-shot classification: each class has the mean vector of its prompts.

Letters: N images, M texts, C classes, P prompts, T tokens, S width of the space.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.datasets.labelled import NAMED
from aimv2.tools.evaluate.features import Extraction
from aimv2.training.device import autocast

CHUNK = 1024  # images whose similarities to all classes are in memory at once


@torch.no_grad()
def embed(extraction: Extraction, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Return the unit vectors of texts: float32 [M, S] on the extraction's device."""
    pair, tokenizer, device = extraction.model.pair, extraction.model.tokenizer, extraction.device
    assert pair is not None, "a text encoder"
    assert tokenizer is not None, "which has a tokenizer"
    found = []
    with extraction.progress("encoding texts", len(texts)) as advance:
        for start in range(0, len(texts), batch_size):
            token_BT = tokenizer.encode(texts[start : start + batch_size], len(pair.text_tower.text_pos_embed))
            length_B = torch.from_numpy(tokenizer.lengths(token_BT))
            with autocast(extraction):
                found.append(pair.embed_texts(torch.from_numpy(token_BT).to(device), length_B.to(device)))
            advance(len(token_BT))
    return torch.cat(found)


def class_vectors(text_CPS: Tensor) -> Tensor:
    """Return the unit vector of each class, the mean of those of its prompts: [C, S]."""
    return F.normalize(text_CPS.mean(dim=1), dim=-1)


def nearest(image_NS: Tensor, class_CS: Tensor) -> Tensor:
    """Return the class whose vector is most similar to each image: int64 [N] on the CPU."""
    return torch.cat([(chunk @ class_CS.T).argmax(dim=1).cpu() for chunk in image_NS.split(CHUNK)])


def class_names(classes: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each class for prompts.

    Raises:
        UsageError: names are given, but not of all classes.
    """
    classes = sorted(classes)
    if given and (missing := [name for name in classes if name not in given]):
        raise UsageError(f"classes has no name for {', '.join(missing[:NAMED])}; give one for each label, or none")
    return {name: given.get(name, name.replace("_", " ")) for name in classes}
