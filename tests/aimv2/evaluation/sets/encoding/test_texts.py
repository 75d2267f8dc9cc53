import numpy as np
import pytest
from aimv2.base.errors import UsageError
from aimv2.tools.evaluate.encoding.models import load_model
from aimv2.tools.evaluate.encoding.texts import Texts

from aimv2.data.tokenizer import CaptionTokenizer


def test_a_long_text_is_cut_and_ends(public_pair):
    model = load_model(public_pair[0])
    token_BT, length_B = model.texts.encode(["xyz " * 30, "one"])
    assert token_BT.shape == (2, 16)
    assert length_B[0] == 16
    assert (token_BT[np.arange(2), length_B - 1] == 1).all()
    assert token_BT[1, 0] == 0  # the start that the tokenizer's file adds


def test_a_tokenizer_of_our_runs_is_used_as_in_training(tmp_path):
    tokenizer = CaptionTokenizer.train(["a red heart"], 300)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    texts = Texts(tmp_path / "tokenizer.json", max_tokens=6, end_id=1, vocab_size=400)
    token_BT, length_B = texts.encode(["  A red\nheart", "red"])
    assert token_BT.tolist() == tokenizer.encode(["  A red\nheart", "red"], 6).tolist()
    assert length_B.tolist() == tokenizer.lengths(token_BT).tolist()


@pytest.mark.parametrize(("end_id", "vocab_size"), [(1, 100), (5000, 400)])
def test_a_tokenizer_of_other_weights_is_refused(end_id, vocab_size, tmp_path):
    (tmp_path / "tokenizer.json").write_text(CaptionTokenizer.train(["a red heart"], 300).to_json())
    with pytest.raises(UsageError, match="is not the tokenizer of these weights"):
        Texts(tmp_path / "tokenizer.json", max_tokens=6, end_id=end_id, vocab_size=vocab_size)


def test_what_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match=r"is not a readable tokenizer\.json"):
        Texts(tmp_path / "tokenizer.json", max_tokens=6, end_id=1, vocab_size=400)
