import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from aimv2.evaluation.sets import text_methods
from aimv2.evaluation.sets.models import load_model


def their_texts(folder, model, texts):
    """Embed texts with transformers, one by one, without padding."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model.set_attn_implementation("eager")  # with SDPA a mask that hides nothing is dropped, and causality with it
    found = []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text).ids])
            pooled = model.text_model(input_ids=ids, attention_mask=torch.ones_like(ids)).pooler_output
            found.append(F.normalize(model.text_projection(pooled), dim=-1)[0])
    return torch.stack(found)


def test_texts_are_embedded_as_by_transformers(public_pair):
    folder, theirs = public_pair
    texts = ["a photo of a zero", "seven", "a digit one two", "nine"]
    found = text_methods.embed(load_model(folder), texts, "cpu", "float32", batch_size=3)
    torch.testing.assert_close(found, their_texts(folder, theirs, texts), atol=1e-5, rtol=1e-4)


def test_a_long_text_is_cut_and_ends(public_pair):
    model = load_model(public_pair[0])
    token_BT, length_B = model.texts.encode(["xyz " * 30, "one"])
    assert token_BT.shape == (2, 16)
    assert length_B[0] == 16
    assert (token_BT[np.arange(2), length_B - 1] == 1).all()
    assert token_BT[1, 0] == 0  # the start that the tokenizer's file adds


def test_classes_are_the_means_of_their_prompts():
    generator = torch.Generator().manual_seed(0)
    text_CPS = F.normalize(torch.randn(5, 3, 8, generator=generator), dim=-1)
    image_NS = F.normalize(torch.randn(50, 8, generator=generator), dim=-1)
    guesses = text_methods.nearest(image_NS, text_methods.class_vectors(text_CPS), 1)[:, 0].tolist()
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
    found = text_methods.retrieval(image_NS, text_US, text_of)
    similarity_NU = (image_NS @ text_US.T).numpy()
    for k in (1, 5):
        hits = [bool(set(np.argsort(-row)[:k]) & set(own)) for row, own in zip(similarity_NU, text_of, strict=True)]
        recall = found[f"image_to_text_recall_{k}"]
        assert recall.num_hits_N.tolist() == hits
        assert recall.num_queries_N.tolist() == [1] * 40
        expected = [
            sum(any(text in text_of[near] for near in np.argsort(-similarity_NU[:, text])[:k]) for text in own)
            for own in text_of
        ]
        recall = found[f"text_to_image_recall_{k}"]
        assert recall.num_hits_N.tolist() == expected
        assert recall.num_queries_N.tolist() == [3] * 40
    assert found["text_to_image_recall_1"].num_hits_N.sum() < found["text_to_image_recall_5"].num_hits_N.sum()
