"""Predicted memory of the evaluation, its limits at every scale, and torch's allocations on full captions."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from aimv2.config.evaluation_config import ReaderConfig
from aimv2.config.program import replaced
from aimv2.config.recipes import scales
from aimv2.config.recipes.post_training import RECIPES
from aimv2.config.recipes.scales import SCALES, demo, vit_1b, vit_3b, vit_l
from aimv2.cost import num_parameters
from aimv2.definitions.objectives import objective
from aimv2.evaluation.attentive import attentive_probe
from aimv2.evaluation.features import Encoded, Features, Splits, encode, moments
from aimv2.evaluation.held_out import Captions, HeldOutPairs
from aimv2.evaluation.prepare import prepare_evaluation
from aimv2.evaluation.probes import knn_scores
from aimv2.evaluation.reader import trained
from aimv2.evaluation.reports import embeddings, pixel_errors, token_nats
from aimv2.memory.evaluation import (
    MIN_CLASSES,
    ProbeSize,
    computed_at_once,
    features_of,
    images_at_once,
    images_of,
    predict_evaluation,
    texts_at_once,
)
from aimv2.objectives.build import build
from aimv2.request.resolve import with_attention
from tests.helpers.peak_memory import peak_bytes

GB = 10**9
LARGER = {"model.image_px": 448, "data.render_px": 512}


def on_gpu(config):
    return replace(with_attention(config), device="cuda", precision="bfloat16")


def changed(scale):
    """Yield runs of a scale: its own, those of the recipes of post-training, and images twice as large."""
    run = SCALES[scale]()
    yield "own", run
    for name, recipe in RECIPES.items():
        yield name, recipe(run)
    px, render_px = 2 * run.model.image_px, 2 * run.data.render_px
    yield "twice as large", replaced(run, {"model.image_px": px, "data.render_px": render_px})


@pytest.mark.parametrize("scale", SCALES)
def test_evaluation_fits_10_gb_of_a_gpu_at_every_scale_and_recipe(scale):
    for name, config in changed(scale):
        assert predict_evaluation(on_gpu(config)).device <= 10 * GB, name


@pytest.mark.parametrize("scale", ["demo", "laptop", "laptop_mix", "tiny"])
def test_scales_of_a_cpu_are_computed_in_one_part_as_stored_runs_were(scale):
    """Parts would change the last digits of numbers of runs whose names stay."""
    for name, config in changed(scale):
        if name == "twice as large":
            continue
        options, model = config.evaluation, config.model
        size = ProbeSize.of(options.probe, model.num_patches, model.encoder.width, MIN_CLASSES)
        assert images_at_once(config) == 256, name
        assert texts_at_once(config) >= options.reader.batch_size, name
        assert size.settings_at_once == size.num_settings, name
        assert (size.images_at_once, size.guesses_at_once) == (options.probe.batch_size, 256), name


def test_features_are_in_files_where_the_memory_would_not_hold_them():
    """Full and causal features of 5,120 test images and those of 10,240 others, float16; images of 256 px."""
    features = (2 * 5120 + 10_240) * 256 * 3072 * 2
    images = 3 * 10_240 * 256**2 * 3 - 2048 * 256**2 * 3  # the arrays of other images are smaller than a GiB
    needed = predict_evaluation(on_gpu(vit_3b()))
    assert features <= needed.files <= features + images
    assert predict_evaluation(on_gpu(demo())).files == 0
    on_cpu = predict_evaluation(replace(on_gpu(vit_3b()), device="cpu", precision="float32"))
    assert on_cpu.files > 1.9 * needed.files - images


def test_a_gpu_holds_the_network_in_half():
    parameters = num_parameters(objective("aimv2").cost(with_attention(vit_1b())))
    needed = predict_evaluation(on_gpu(vit_1b()))
    whole = predict_evaluation(replace(on_gpu(vit_1b()), precision="float32"))
    assert needed.device > 2 * parameters
    assert whole.device > needed.device + 1.5 * parameters


def test_what_is_computed_at_once_shrinks_as_images_get_larger():
    runs = [vit_l(), replaced(vit_l(), LARGER), replaced(vit_3b(), LARGER)]
    assert [images_at_once(run) for run in runs] == [32, 32, 16]
    sizes = [texts_at_once(run) for run in runs]
    assert sizes == sorted(sizes, reverse=True)


def test_images_and_features_have_the_predicted_bytes(tiny, pairs):
    """Oracle: the arrays that the evaluation of a small run prepares and reads."""
    config = replaced(tiny, {"evaluation.num_items": 30, "evaluation.num_probe_scenes": 60})
    prepared = prepare_evaluation(pairs, config)
    scenes = prepared.transfer[0]
    found = [prepared.held_out, prepared.unseen, prepared.reading]
    images = [*(part.images for part in found), scenes.train, scenes.validation]
    assert [array.nbytes for array in images] == images_of(config)
    encoded = Encoded(build(config).encoder, prepared.held_out.images, config)
    others = [encoded.of(array, is_causal=False) for array in (scenes.train, scenes.validation)]
    assert [array.nbytes for array in (encoded.full, encoded.causal, *others)] == features_of(config)


def full_captions(number, config):
    """Return random captions of the maximal length."""
    num_tokens, generator = config.model.max_text_tokens, torch.Generator().manual_seed(0)
    token_NT = torch.randint(3, config.model.vocab_size, (number, num_tokens), generator=generator)
    length_N = torch.full((number,), num_tokens)
    return Captions(token_NT, torch.ones_like(token_NT, dtype=torch.bool), token_NT.to(torch.int8), length_N, length_N)


class Measured:
    """The parts of an evaluation, each at its largest."""

    def __init__(self, config):
        self.config, self.number = config, images_at_once(config)
        self.model = build(config)
        px, patches = config.data.render_px, config.model.num_patches
        self.images = np.zeros((self.number, px, px, 3), dtype=np.uint8)
        self.captions = full_captions(self.number, config)
        self.features = torch.randn(512, patches, config.model.encoder.width)
        row_N = np.arange(self.number)
        self.pairs = HeldOutPairs(row_N, self.images, row_N, self.captions, self.captions)
        labels = torch.randint(MIN_CLASSES, (512, 1))
        self.part = Features(self.features, labels)

    def encoding(self):
        encode(self.model.encoder, self.images, self.config, is_causal=True)

    def read_captions(self):
        token_nats(self.model, self.features[: self.number], self.captions, self.config)

    def pixels(self):
        pixel_errors(self.model, self.pairs, 0.5, self.config)

    def retrieval(self):
        embeddings(self.model, self.pairs, self.config)

    def reader(self):
        number = self.config.evaluation.reader.batch_size
        captions = full_captions(number, self.config)
        trained(self.features[:number], captions, self.config)

    def moments(self):
        moments(self.features.half(), torch.device("cpu"))

    def neighbours(self):
        knn_scores(self.part, self.part, MIN_CLASSES, [10])

    def probe(self):
        splits = Splits(MIN_CLASSES, self.part, self.part, self.part)
        attentive_probe(splits, self.config.evaluation.probe, seed=self.config.seed)


@pytest.fixture(scope="module")
def measured():
    """Return a function that prepares the parts of a run in the shape of ``tiny``, with few blocks."""

    def prepare(precision, **values):
        config = replace(with_attention(scales.tiny()), device="cpu", precision=precision)
        shallow = {"model.encoder.depth": 2, "model.decoder.depth": 2, "evaluation.probe.epochs": 2}
        shallow |= {"evaluation.num_items": 512, "evaluation.num_pairs": 256, "evaluation.num_probe_scenes": 512}
        shallow |= {"evaluation.set_images": 512, "data.scenes.num_objects": 5, "data.scenes.num_unseen": 4}
        reader = ReaderConfig(samples=256, width=256, depth=2, batch_size=128)
        config = replaced(config, shallow | values)
        return Measured(replace(config, evaluation=replace(config.evaluation, reader=reader)))

    return prepare


CLIP = {"objective.name": "clip", "model.encoder.attention": "bidirectional"}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("part", "precision"),
    [
        *product(("encoding", "reader", "read_captions", "pixels", "retrieval"), ("float32", "bfloat16")),
        *product(("probe", "neighbours", "moments"), ("float32",)),
    ],
)
def test_prediction_bounds_the_allocations_of_each_part(measured, part, precision):
    """Oracle: the allocations that torch's profiler records."""
    run = measured(precision, **(CLIP if part == "retrieval" else {}))
    taken, predicted = peak_bytes(getattr(run, part), "cpu"), computed_at_once(run.config)[part.removeprefix("read_")]
    assert taken <= predicted <= 1.5 * taken
