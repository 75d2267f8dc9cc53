from dataclasses import replace

import torch

from aimv2.evaluation.losses import prepare_pairs
from aimv2.evaluation.retrieval import caption_labels, embeddings, recall
from aimv2.model.network import build


def test_recall_matches_a_loop_over_queries():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(40, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(0, 25, (40,), generator=generator)
    for k in (1, 3, 40, 100):
        hits = 0
        for row in range(40):
            ranked = sorted(range(40), key=lambda other: -float(query[row] @ key[other]))
            hits += any(labels[other] == labels[row] for other in ranked[:k])
        assert recall(query, key, labels, k) == hits / 40, "with fewer keys than k, all count"


def test_equal_captions_have_one_label():
    tokens = torch.tensor([[3, 4, 1], [5, 1, 1], [3, 4, 1], [3, 1, 1]])
    labels = caption_labels(tokens).tolist()
    assert [[a == b for b in labels] for a in labels] == [
        [row == other for other in tokens.tolist()] for row in tokens.tolist()
    ]


def test_embeddings_are_the_networks_under_full_attention(tiny, pairs):
    config = replace(tiny, objective=replace(tiny.objective, name="clip"))
    model = build(config)
    data = prepare_pairs(pairs[1].subset(9), pairs[2], config, caption="name")
    image_NS, text_NS = embeddings(model, data, config)
    with torch.no_grad():
        torch.testing.assert_close(image_NS[3:4], model.embed_images(data.image[3:4]))
        torch.testing.assert_close(text_NS[3:4], model.embed_texts(data.token_NT[3:4], data.text_len_N[3:4]))
    torch.testing.assert_close(image_NS.norm(dim=1), torch.ones(9))
