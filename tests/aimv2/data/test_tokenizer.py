import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from aimv2.base.errors import UsageError
from aimv2.data.tokenizer import CaptionTokenizer, clean

CAPTIONS = ["red apple", "green apple", "grinning face", "flag Aland Islands", "apple pie"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return CaptionTokenizer.train(CAPTIONS, vocab_size=300)


def test_encode_ends_and_pads_with_id_1(tokenizer):
    assert tokenizer.end_id == 1
    tokens = tokenizer.encode(["apple", ""], 8)
    assert tokens.dtype == np.int64
    assert tokens[1].tolist() == [1] * 8
    assert tokens[0, -1] == 1


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzåß漢 ", max_size=40))
def test_decode_returns_the_cleaned_caption(tokenizer, caption):
    tokens = tokenizer.encode([caption], 256)
    assert tokenizer.decode(tokens[0].tolist()) == clean(caption)


@pytest.mark.parametrize("supervise_eos", [False, True])
def test_supervised_leaves_out_padding_and_by_default_end_of_text(tokenizer, supervise_eos):
    tokens = tokenizer.encode(["apple pie", "apple pie " * 50, ""], 10)
    supervised = tokenizer.supervised(tokens, supervise_eos=supervise_eos)
    for row, mask in zip(tokens, supervised, strict=True):
        content = int((row != 1).sum())
        assert mask.tolist() == [i < content or (supervise_eos and i == content) for i in range(10)]


@pytest.fixture
def sentencepiece(tmp_path):
    """A tokenizer like SigLIP's public one: pieces with scores, an unknown piece, end-of-text as id 1."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁red", "▁apple", "▁pie", "s", *"aeilpr"]
    vocabulary = [(piece, -float(number)) for number, piece in enumerate(pieces)]
    library = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    library.add_special_tokens(["<pad>", "</s>", "<unk>"])
    library.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    library.save(str(tmp_path / "siglip.json"))
    return CaptionTokenizer.load(tmp_path / "siglip.json")


def test_sentencepiece_tokenizer_has_the_same_conventions(sentencepiece):
    tokens = sentencepiece.encode(["Red apples!", "red apple pie " * 9], 6)
    assert tokens[0].tolist() == [4, 5, 7, 1, 1, 1], "no second end-of-text, though the file would add one"
    assert tokens[1, -1] == 1
    assert (tokens[1, :-1] != 1).all()
    assert sentencepiece.decode(tokens[0].tolist()) == "red apples"


def test_num_bytes_counts_the_bytes_of_unknown_pieces(sentencepiece):
    assert sentencepiece.num_bytes(["red 漢"], 16) == len("red 漢".encode())
    assert sentencepiece.num_bytes(["red apple pie"], 3) == len("red apple")


def test_num_bytes_of_a_truncated_caption_counts_its_tokens(tokenizer):
    caption = "apple pie " * 20
    kept = tokenizer.decode(tokenizer.encode([caption], 6)[0].tolist())
    assert tokenizer.num_bytes([caption], 6) == len(kept.encode())
    assert tokenizer.num_bytes([caption], 500) == len(caption.strip())


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_load_names_a_file_that_is_not_a_tokenizer(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        CaptionTokenizer.load(path)


WORDS = st.lists(st.text(st.sampled_from("aeilprdsé漢"), min_size=1, max_size=6), min_size=1, max_size=8)


@pytest.mark.parametrize("kind", ["tokenizer", "sentencepiece"])
@given(words=WORDS, max_tokens=st.integers(2, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tokens_of_each_word_are_those_of_the_word_alone(request, kind, words, max_tokens):
    """Neither tokenizer merges across words, so each word can be encoded by itself."""
    found = request.getfixturevalue(kind)
    expected = []
    for number, word in enumerate(words):
        alone = found.encode([word], 200)[0]
        expected += [number] * int((alone != found.end_id).sum())
    expected = (expected[: max_tokens - 1] + [-1] * max_tokens)[:max_tokens]
    assert found.token_words([words], max_tokens).tolist() == [expected]


def test_token_words_of_several_captions(sentencepiece):
    captions = [("red", "apple"), (), ("apple", "s", "red", "pie")]
    tokens = sentencepiece.encode([" ".join(words) for words in captions], 6)
    assert tokens.tolist() == [[4, 5, 1, 1, 1, 1], [1] * 6, [5, 3, 7, 4, 6, 1]]
    assert sentencepiece.token_words(captions, 6).tolist() == [[0, 1, -1, -1, -1, -1], [-1] * 6, [0, 1, 1, 2, 3, -1]]


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Waving Hand: Light  Skin\tTone", "waving hand light skin tone"),
        ("Fish &amp;amp; Chips!", "fish chips"),
        ("caf\u00c3\u00a9", "café"),
        ("  ", ""),
        ("first-aid kit's", "firstaid kits"),
    ],
)
def test_clean_follows_the_released_code(raw, cleaned):
    assert clean(raw) == cleaned


@settings(max_examples=50)
@given(st.text())
def test_clean_gives_lower_case_words_with_single_spaces(text):
    cleaned = clean(text)
    assert cleaned == cleaned.lower()
    assert not set(cleaned) & set(string.punctuation)
    assert cleaned == " ".join(cleaned.split())
