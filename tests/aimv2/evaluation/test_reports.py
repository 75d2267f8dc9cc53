"""Losses and the reports of objectives, against loops over tokens, patches and queries."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from aimv2.evaluation import reports
from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import CLASSES, Words, network_inputs, other_images, prepare_pairs
from aimv2.evaluation.prepare import prepare_evaluation
from aimv2.evaluation.reports import caption_labels, embeddings, hits, pixel_errors, token_nats
from aimv2.objectives.build import build
from aimv2.objectives.losses import patchify, standardise

NUM_PAIRS = 21


def variant(config, supervise_eos=False, **decoder):
    model = replace(config.model, decoder=replace(config.model.decoder, **decoder), max_text_tokens=14)
    return replace(config, model=model, objective=replace(config.objective, supervise_eos=supervise_eos))


@pytest.fixture
def prepared(pairs):
    """Return a function that prepares held-out pairs for a config."""
    return lambda config: prepare_pairs(pairs.held_out.subset(NUM_PAIRS), Words.of(pairs.tokenizer, config))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kind", ["short", "dense"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"supervise_eos": True}, {"order": "text_first"}, {"sharing": "separate"}],
    ids=["joint", "end of text", "text first", "separate"],
)
def test_token_nats_match_a_loop_over_tokens(tiny, prepared, changes, kind, is_causal):
    """Some dense captions are longer than 14 tokens, and are truncated."""
    config = variant(tiny, **changes)
    data, model = prepared(config), build(config)
    captions = getattr(data, kind)
    features = encode(model.encoder, data.images, config, is_causal=is_causal)
    found = token_nats(model, features, captions, config, batch_size=8)  # the last batch is smaller
    expected = torch.zeros(NUM_PAIRS, 14)
    for row in range(NUM_PAIRS):
        image = network_inputs(data.images[row : row + 1], config)
        prefix_len = torch.ones(1, dtype=torch.int64) if is_causal else None
        tokens = captions.token_NT[row : row + 1]
        _, hidden = model(image, tokens, prefix_len, captions.text_len_N[row : row + 1])
        logp = F.log_softmax(model.decoder.text_head(hidden)[0].detach(), dim=-1)
        content = [token for token in tokens[0].tolist() if token != 1]
        for place, token in enumerate(content + [1] * config.objective.supervise_eos):
            expected[row, place] = -logp[place, token]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (kind == "dense") == bool((captions.text_len_N == 14).any())


def test_token_nats_of_features_in_half_of_images_by_row_and_of_captions_without_a_supervised_token(tiny, prepared):
    data, model = prepared(tiny), build(tiny)
    features = encode(model.encoder, data.images, tiny)
    in_half = token_nats(model, features.half(), data.dense, tiny)
    assert torch.equal(in_half, token_nats(model, features.half().float(), data.dense, tiny))
    other = torch.arange(NUM_PAIRS).roll(5).numpy()
    found = token_nats(model, features, data.dense, tiny, image_of_N=other)
    torch.testing.assert_close(found, token_nats(model, features[other], data.dense, tiny))
    assert not torch.equal(found, token_nats(model, features, data.dense, tiny))
    nothing = replace(data.dense, supervised_NT=torch.zeros_like(data.dense.supervised_NT))
    assert not token_nats(model, features, nothing, tiny).any()


@pytest.mark.parametrize("fraction", [0.25, 0.5])
@pytest.mark.parametrize("targets", ["standardised", "raw"])
def test_pixel_errors_average_the_patches_after_the_prefix(tiny, prepared, fraction, targets):
    config = replace(tiny, objective=replace(tiny.objective, pixel_targets=targets))
    data, model = prepared(config), build(config)
    length = round(16 * fraction)
    image = network_inputs(data.images, config)
    image_part, _ = model(image, data.short.token_NT, torch.full((NUM_PAIRS,), length))
    predicted = model.decoder.pixel_head(image_part).detach()
    target = patchify(image, config.model.patch_px)
    target = standardise(target) if targets == "standardised" else target
    found = pixel_errors(model, data, fraction, config)
    assert found.shape == (NUM_PAIRS,)
    for row in range(NUM_PAIRS):
        errors = [(predicted[row, place - 1] - target[row, place]).square().mean() for place in range(length, 16)]
        assert found[row] == pytest.approx(float(sum(errors) / len(errors)), rel=1e-5)


def test_pixels_of_a_text_first_decoder_are_predicted_with_the_short_caption(tiny, prepared):
    config = variant(tiny, order="text_first")
    data, model = prepared(config), build(config)
    image, captions = network_inputs(data.images, config), data.short
    image_part, _ = model(image, captions.token_NT, torch.full((NUM_PAIRS,), 8), captions.text_len_N)
    predicted = model.decoder.pixel_head(image_part).detach()
    expected = (predicted[:, 7:15] - standardise(patchify(image, 4))[:, 8:]).square().mean(dim=(1, 2))
    torch.testing.assert_close(torch.from_numpy(pixel_errors(model, data, 0.5, config)).float(), expected)


def test_evaluation_changes_no_weights(tiny, prepared):
    data, model = prepared(tiny), build(tiny)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    token_nats(model, encode(model.encoder, data.images, tiny), data.dense, tiny)
    pixel_errors(model, data, 0.5, tiny)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


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
