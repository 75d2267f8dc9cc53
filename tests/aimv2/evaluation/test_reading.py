"""Training of the reader: texts that share an image are read as if each had its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.config.evaluation_config import ReaderConfig
from aimv2.evaluation.held_out import Words, prepare_captions
from aimv2.evaluation.questions import prepare_questions
from aimv2.evaluation.reading import fit
from aimv2.evaluation.reports.reader import initial


@pytest.fixture(scope="module")
def read(tiny):
    reader = ReaderConfig(samples=1, width=32, depth=1, peak_lr=1e-2)
    model = replace(tiny.model, max_text_tokens=24)
    return replace(tiny, model=model, evaluation=replace(tiny.evaluation, reader=reader))


def test_an_image_is_read_once_for_its_texts_and_the_result_is_that_of_separate_ones(read, pairs):
    asked = prepare_questions(pairs.train.subset(6), Words(pairs.tokenizer, 24, supervise_eos=False))
    features_NID = torch.randn(6, read.model.num_patches, 32, generator=torch.Generator().manual_seed(0))
    batches = np.array_split(np.arange(len(asked)), 3)
    shared, separate = initial(features_NID, read, seed=0), initial(features_NID, read, seed=0)
    fit(shared, features_NID, asked.captions, batches, read, image_of_M=asked.row_M)
    fit(separate, features_NID[asked.row_M], asked.captions, batches, read)
    start = initial(features_NID, read, seed=0).state_dict()
    for (name, found), expected in zip(shared.state_dict().items(), separate.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)
        assert name.endswith(("mean_D", "std_D")) or not torch.equal(found, start[name])


def test_a_step_in_parts_is_that_of_all_its_texts(read, pairs):
    """Parts of 5 texts, the last one smaller, whose captions have other lengths; their gradients are added."""
    captions = prepare_captions(
        pairs.train.subset(24).captions(np.arange(24), "dense"), Words.of(pairs.tokenizer, read)
    )
    features_NID = torch.randn(24, read.model.num_patches, 32, generator=torch.Generator().manual_seed(0))
    batches = np.array_split(np.arange(24), 2)
    whole, parts = initial(features_NID, read, seed=0), initial(features_NID, read, seed=0)
    fit(whole, features_NID, captions, batches, read)
    fit(parts, features_NID, captions, batches, read, at_once=5)
    for found, expected in zip(parts.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)
