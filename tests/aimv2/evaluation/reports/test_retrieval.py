from dataclasses import replace

import torch

from aimv2.evaluation.features import Encoded
from aimv2.evaluation.held_out import Words, network_inputs, prepare_pairs
from aimv2.evaluation.prepare import prepare_evaluation
from aimv2.evaluation.reports.retrieval import caption_labels, curve, embeddings, hits, measure
from aimv2.objectives.build import build


def test_hits_match_a_loop_over_queries():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(40, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(0, 25, (40,), generator=generator)
    for k in (1, 3, 40, 100):
        expected = []
        for row in range(40):
            ranked = sorted(range(40), key=lambda other: -float(query[row] @ key[other]))
            expected.append(any(bool(labels[other] == labels[row]) for other in ranked[:k]))
        assert hits(query, key, labels, k).tolist() == expected, "with fewer keys than k, all count"


def test_equal_captions_have_one_label():
    tokens = torch.tensor([[3, 4, 1], [5, 1, 1], [3, 4, 1], [3, 1, 1]])
    labels = caption_labels(tokens).tolist()
    assert [[a == b for b in labels] for a in labels] == [
        [row == other for other in tokens.tolist()] for row in tokens.tolist()
    ]


def test_embeddings_are_the_networks_under_full_attention(tiny, pairs):
    config = replace(tiny, objective=replace(tiny.objective, name="clip"))
    model = build(config)
    data = prepare_pairs(pairs.held_out.subset(9), Words.of(pairs.tokenizer, config))
    image_NS, text_NS = embeddings(model, data, config)
    with torch.no_grad():
        torch.testing.assert_close(image_NS[3:4], model.embed_images(network_inputs(data.images[3:4], config)))
        captions = data.dense
        text = model.embed_texts(captions.token_NT[3:4], captions.text_len_N[3:4])
        torch.testing.assert_close(text_NS[3:4], text)
    torch.testing.assert_close(image_NS.norm(dim=1), torch.ones(9))


def test_recall_counts_queries_whose_own_caption_is_near(tiny, pairs):
    evaluation = replace(tiny.evaluation, num_pairs=tiny.evaluation.num_items)  # all
    config = replace(tiny, objective=replace(tiny.objective, name="clip"), evaluation=evaluation)
    model, prepared = build(config), prepare_evaluation(pairs, config, lambda *data: [])
    held_out = prepared.held_out
    image_NS, text_NS = embeddings(model, held_out, config)
    same = [[row == other for other in held_out.dense.token_NT.tolist()] for row in held_out.dense.token_NT.tolist()]
    expected = {}
    for way, similarity in (("image_to_text", image_NS @ text_NS.T), ("text_to_image", text_NS @ image_NS.T)):
        for k in (1, 5):
            near = similarity.argsort(dim=1, descending=True)[:, :k].tolist()
            right = [any(same[row][other] for other in near[row]) for row in range(len(held_out))]
            expected[f"{way}_recall_{k}"] = sum(right) / len(right)
    measured = measure(model, Encoded(model.encoder, held_out.images, config), prepared)
    assert {name: value.items.value for name, value in measured.items()} == expected
    assert curve(model, held_out, config) == {"held_out_recall": expected["image_to_text_recall_1"]}
