"""The reports of objectives, against loops over tokens, patches and queries."""

import math
from dataclasses import replace

import pytest
import torch

from aimv2.evaluation import reports
from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import CLASSES, Words, network_inputs, other_images, prepare_pairs
from aimv2.evaluation.losses import pixel_errors, token_nats
from aimv2.evaluation.prepare import prepare_evaluation
from aimv2.evaluation.reports import caption_labels, embeddings, hits
from aimv2.objectives.build import build

CONTENT = ("object", "ink", "place", "relation", "count")


@pytest.fixture(scope="module")
def long(tiny):
    """The tiny run, with room for whole captions."""
    return replace(tiny, model=replace(tiny.model, max_text_tokens=24))


def measured(model, pairs, config):
    """Return the metrics of the report, and the held-out pairs that they are measured on."""
    prepared = prepare_evaluation(pairs, config, lambda *data: [])
    encoded = Encoded(model.encoder, prepared.held_out.images, config)
    return reports.captions(model, encoded, prepared), prepared.held_out


def test_losses_of_classes_are_sums_over_their_tokens(long, pairs):
    """From one table of all tokens, token by token."""
    model = build(long)
    metrics, held_out = measured(model, pairs, long)
    assert len(held_out) == 48
    full, causal = (encode(model.encoder, held_out.images, long, is_causal=mask) for mask in (False, True))
    told = held_out.first(40)
    tables = {
        "short": token_nats(model, full, held_out.short, long),
        "dense": token_nats(model, full, held_out.dense, long),
        "causal_dense": token_nats(model, causal, held_out.dense, long),
        "other": token_nats(model, full, told.dense, long, image_of_N=other_images(told.dense)),
    }

    def mean(*parts):
        """The mean over tokens of (table, captions, classes), with the tokens found one by one."""
        total, count = 0.0, 0
        for nats_NT, captions, classes in parts:
            for row in range(len(nats_NT)):
                for place in range(nats_NT.shape[1]):
                    if captions.supervised_NT[row, place] and CLASSES[captions.class_NT[row, place]] in classes:
                        total, count = total + float(nats_NT[row, place]), count + 1
        return total / count

    short = (tables["short"], held_out.short, CLASSES)
    dense = (tables["dense"], held_out.dense, CLASSES)
    gain = tables["other"] - tables["dense"][:40]
    expected = {
        "caption_loss": mean(short, dense),
        "short_loss": mean(short),
        "dense_loss": mean(dense),
        "content_loss": mean((tables["dense"], held_out.dense, CONTENT)),
        "causal_content_loss": mean((tables["causal_dense"], held_out.dense, CONTENT)),
        "image_gain": mean((gain, told.dense, CONTENT)),
        **{f"content_loss_{kind}": mean((tables["dense"], held_out.dense, (kind,))) for kind in CONTENT},
        **{f"image_gain_{kind}": mean((gain, told.dense, (kind,))) for kind in CONTENT},
    }
    for name, value in expected.items():
        assert metrics[name].items.value == pytest.approx(value, rel=1e-4, abs=1e-6), name
    nats = float(tables["short"].double().sum() + tables["dense"].double().sum())
    num_bytes = int(held_out.short.num_bytes_N.sum() + held_out.dense.num_bytes_N.sum())
    assert metrics["caption_bits"].items.value == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)


def test_text_first_decoder_gains_nothing_from_the_image(long, pairs):
    decoder = replace(long.model.decoder, order="text_first")
    config = replace(long, model=replace(long.model, decoder=decoder))
    metrics, _ = measured(build(config), pairs, config)
    assert metrics["image_gain"].items.value == pytest.approx(0, abs=1e-6)
    assert metrics["choice_accuracy"].items.item_N.size > metrics["blind_choice_accuracy"].items.item_N.size > 0


def test_pixels_are_measured_on_the_first_pairs_after_each_prefix(tiny, pairs):
    config = replace(tiny, evaluation=replace(tiny.evaluation, num_pairs=20, prefix_fractions=(0.25, 0.5)))
    model, prepared = build(config), prepare_evaluation(pairs, config, lambda *data: [])
    measured = reports.pixels(model, Encoded(model.encoder, prepared.held_out.images, config), prepared)
    assert list(measured) == ["pixel_loss_0.25", "pixel_loss_0.5"]
    for name, fraction in (("pixel_loss_0.25", 0.25), ("pixel_loss_0.5", 0.5)):
        errors = pixel_errors(model, prepared.held_out, fraction, config)
        assert measured[name].items.item_N.tolist() == prepared.held_out.item_N[:20].tolist()
        assert measured[name].items.value == pytest.approx(errors[:20].mean())
    point = reports.pixels_curve(model, prepared.held_out, config)
    assert point == {"held_out_pixel_loss": pytest.approx(errors.mean())}, "after half of the image"


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
    measured = reports.retrieval(model, Encoded(model.encoder, held_out.images, config), prepared)
    assert {name: value.items.value for name, value in measured.items()} == expected
    assert reports.retrieval_curve(model, held_out, config) == {"held_out_recall": expected["image_to_text_recall_1"]}
