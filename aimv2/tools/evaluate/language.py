"""The methods that need a text encoder: zero-shot classification and retrieval.

Letters: N images, M texts, U different texts, C classes, P prompts, T tokens, S width of the space.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets.images import Unusable
from aimv2.datasets.labelled import NAMED
from aimv2.datasets.records import Records
from aimv2.spec.metrics import RECALL_AT
from aimv2.tools.evaluate.features import Extraction
from aimv2.training.device import autocast

Hits = tuple[np.ndarray, np.ndarray]  # of each image's queries, and the number of these: int64 [N] each
CHUNK = 1024  # queries whose similarities to all keys are in memory at once


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


def nearest(query_NS: Tensor, key_MS: Tensor, k: int) -> Tensor:
    """Return the k keys that are most similar to each query, the most similar first: int64 [N, k] on the CPU."""
    k = min(k, len(key_MS))
    return torch.cat([(chunk @ key_MS.T).topk(k, dim=1).indices.cpu() for chunk in query_NS.split(CHUNK)])


def retrieval(image_NS: Tensor, text_US: Tensor, text_of: Sequence[Sequence[int]]) -> dict[str, Hits]:
    """Return the hits of retrieval at 1 and 5 both ways.

    An image's query is a hit if one of its own captions is among the k most similar texts. A caption's is a hit if an
    image with this caption is among the k most similar images. Equal captions are one text.

    Args:
        text_of: of each image its captions, as rows of ``text_US``, at least one.
    """
    own, num_captions_N = [frozenset(texts) for texts in text_of], np.array([len(texts) for texts in text_of])
    near_text_Nk = nearest(image_NS, text_US, max(RECALL_AT)).tolist()
    near_image_Uk = nearest(text_US, image_NS, max(RECALL_AT)).tolist()
    found = {}
    for k in RECALL_AT:
        hits_N = np.array([not own[image].isdisjoint(near[:k]) for image, near in enumerate(near_text_Nk)], np.int64)
        is_hit_U = [any(text in own[image] for image in near[:k]) for text, near in enumerate(near_image_Uk)]
        found[f"image_to_text_recall_{k}"] = hits_N, np.ones_like(hits_N)
        hits_N = np.array([sum(is_hit_U[text] for text in texts) for texts in text_of])
        found[f"text_to_image_recall_{k}"] = hits_N, num_captions_N
    return found


def read_captions(records: Records, field: str, rows: Iterable[int]) -> tuple[dict[int, list[str]], list[Unusable]]:
    """Return the captions of each row that has any, and the rows without usable ones.

    Raises:
        UsageError: the field holds neither text nor a list of texts.
    """
    captions, unusable = {}, []
    for row in rows:
        try:
            value = records.field(row, field)
            texts = value if isinstance(value, list) else [value or ""]
            if not all(isinstance(text, str) for text in texts):
                raise UsageError(
                    f"captions: {field} of sample {records.key(row)!r} is {value!r}; it must be text or a list of texts"
                )
            if not (own := [text.strip() for text in texts if text.strip()]):
                raise BadSampleError("missing caption" if value is None else "empty caption", field)
            captions[row] = own
        except BadSampleError as error:
            unusable.append(Unusable.of(records, row, error))
    return captions, unusable


def class_names(classes: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each class for prompts.

    Raises:
        UsageError: names are given, but not of all classes.
    """
    classes = sorted(classes)
    if given and (missing := [name for name in classes if name not in given]):
        raise UsageError(f"classes has no name for {', '.join(missing[:NAMED])}; give one for each label, or none")
    return {name: given.get(name, name.replace("_", " ")) for name in classes}
