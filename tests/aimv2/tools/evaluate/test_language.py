from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aimv2.base.errors import UsageError
from aimv2.tools.evaluate import language
from aimv2.tools.evaluate.models import load_model
from tests.helpers.memory_records import with_field
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
    guesses = language.nearest(image_NS, language.class_vectors(text_CPS), 1)[:, 0].tolist()
    for image_S, guess in zip(image_NS, guesses, strict=True):
        scores = [F.cosine_similarity(image_S, sum(prompts) / 3, dim=0) for prompts in text_CPS]
        assert guess == int(np.argmax(scores))


def test_recall_is_that_of_the_obvious_loop():
    generator = torch.Generator().manual_seed(1)
    image_NS = F.normalize(torch.randn(40, 6, generator=generator), dim=-1)
    text_of = [[n % 30, 30 + n, 30 + (n + 1) % 40] for n in range(40)]  # some texts belong to several images
    text_US = torch.randn(70, 6, generator=generator)
    for image, texts in enumerate(text_of):
        text_US[texts] += image_NS[image]
    text_US = F.normalize(text_US, dim=-1)
    found = language.retrieval(image_NS, text_US, text_of)
    similarity_NU = (image_NS @ text_US.T).numpy()
    for k in (1, 5):
        hits = [bool(set(np.argsort(-row)[:k]) & set(own)) for row, own in zip(similarity_NU, text_of, strict=True)]
        recall = found[f"image_to_text_recall_{k}"]
        assert recall[0].tolist() == hits
        assert recall[1].tolist() == [1] * 40
        expected = [
            sum(any(text in text_of[near] for near in np.argsort(-similarity_NU[:, text])[:k]) for text in own)
            for own in text_of
        ]
        recall = found[f"text_to_image_recall_{k}"]
        assert recall[0].tolist() == expected
        assert recall[1].tolist() == [3] * 40
    assert found["text_to_image_recall_1"][0].sum() < found["text_to_image_recall_5"][0].sum()


def test_captions_are_texts_or_lists_and_empty_ones_are_bad():
    records = with_field("caption", ["a cat ", ["a dog", " ", "one"], "", None, []])
    captions, unusable = language.read_captions(records, "caption", range(5))
    assert captions == {0: ["a cat"], 1: ["a dog", "one"]}
    assert [(each.row, each.reason) for each in unusable] == [
        (2, "empty caption"),
        (3, "missing caption"),
        (4, "empty caption"),
    ]
    with pytest.raises(UsageError, match="must be text or a list of texts"):
        language.read_captions(with_field("caption", [3]), "caption", [0])


def test_names_of_classes_are_given_for_all_or_none():
    assert language.class_names(["tabby_cat", "1"], {}) == {"1": "1", "tabby_cat": "tabby cat"}
    assert language.class_names(["1", "0"], {"0": "no", "1": "yes", "2": "unused"}) == {"0": "no", "1": "yes"}
    with pytest.raises(UsageError, match="no name for 1"):
        language.class_names(["1", "0"], {"0": "no"})
