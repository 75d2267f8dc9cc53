import math
from dataclasses import replace

import pytest

from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import CLASSES, other_images
from aimv2.evaluation.losses import token_nats
from aimv2.evaluation.prepare import prepare_evaluation
from aimv2.evaluation.reports.captions import measure
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
    return measure(model, encoded, prepared), prepared.held_out


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
