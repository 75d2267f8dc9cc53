from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aimv2.base.errors import UsageError
from aimv2.tools.evaluate import language
from aimv2.tools.evaluate.models import load_model
from tests.helpers.public_encoders import their_texts


def test_texts_are_embedded_as_in_training(pair, extraction):
    folder, network = pair
    model = load_model(folder)
    texts = ["a photo of a zero", "Seven", "a one two " * 9, "nine"]
    found = language.embed(replace(extraction, model=model), texts, batch_size=3)
    token_BT = model.tokenizer.encode(texts, 12)
    length_B = torch.from_numpy(model.tokenizer.lengths(token_BT))
    with torch.no_grad():
        expected = network.embed_texts(torch.from_numpy(token_BT), length_B)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_texts_are_embedded_as_by_transformers(public_pair, extraction):
    folder, theirs = public_pair
    texts = ["a photo of a zero", "seven", "a digit one two", "nine"]
    found = language.embed(replace(extraction, model=load_model(folder)), texts, batch_size=3)
    torch.testing.assert_close(found, their_texts(folder, theirs, texts), atol=1e-5, rtol=1e-4)


def test_classes_are_the_means_of_their_prompts():
    generator = torch.Generator().manual_seed(0)
    text_CPS = F.normalize(torch.randn(5, 3, 8, generator=generator), dim=-1)
    image_NS = F.normalize(torch.randn(50, 8, generator=generator), dim=-1)
    guesses = language.nearest(image_NS, language.class_vectors(text_CPS)).tolist()
    for image_S, guess in zip(image_NS, guesses, strict=True):
        scores = [F.cosine_similarity(image_S, sum(prompts) / 3, dim=0) for prompts in text_CPS]
        assert guess == int(np.argmax(scores))


def test_names_of_classes_are_given_for_all_or_none():
    assert language.class_names(["tabby_cat", "1"], {}) == {"1": "1", "tabby_cat": "tabby cat"}
    assert language.class_names(["1", "0"], {"0": "no", "1": "yes", "2": "unused"}) == {"0": "no", "1": "yes"}
    with pytest.raises(UsageError, match="no name for 1"):
        language.class_names(["1", "0"], {"0": "no"})
