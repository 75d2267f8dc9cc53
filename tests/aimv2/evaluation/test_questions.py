"""Questions: one of each kind about a scene, all of pairs in files, and what is left out."""

from collections import Counter

import numpy as np
import pytest

from aimv2.base.errors import BadSampleError
from aimv2.data.pairs import Selected
from aimv2.data.sources.scene import SCENE_QUESTIONS, Question
from aimv2.evaluation.held_out import Words
from aimv2.evaluation.questions import prepare_questions


@pytest.fixture(scope="module")
def words(pairs):
    return Words(pairs.tokenizer, 24, supervise_eos=False)


class Own(Selected):
    """Pairs with given questions."""

    def __init__(self, pairs, given):
        super().__init__(pairs, np.arange(len(given)))
        self._given = given

    def questions(self, row):
        if self._given[row] is None:
            raise BadSampleError("broken json")
        return self._given[row]


def test_one_question_of_each_kind_is_asked_about_a_scene_and_only_answers_are_predicted(pairs, words):
    held_out = pairs.held_out.subset(60)
    asked = prepare_questions(held_out, words)
    assert asked.row_M.tolist() == sorted(asked.row_M.tolist())
    assert max(Counter(zip(asked.row_M.tolist(), asked.kind_M, strict=True)).values()) == 1
    assert set(asked.kind_M) == set(SCENE_QUESTIONS)
    for number in range(len(asked)):
        tokens, is_predicted = asked.captions.token_NT[number], asked.captions.supervised_NT[number]
        question, answer = (pairs.tokenizer.decode(tokens[chosen].tolist()) for chosen in (~is_predicted, is_predicted))
        assert answer == asked.answer_M[number]
        true = Question(asked.kind_M[number], tuple(question.split()), tuple(answer.split()))
        assert true in held_out.questions(int(asked.row_M[number]))
        last = int(is_predicted.nonzero().max())
        assert tokens[last] == pairs.tokenizer.end_id, "the answer must end"
        assert asked.captions.num_read_N[number] == asked.captions.text_len_N[number] == last + 1
    again = prepare_questions(held_out, words)
    assert (again.captions.token_NT == asked.captions.token_NT).all()


def test_no_further_pair_is_asked_about_once_there_are_enough_questions(pairs, words):
    held_out = pairs.held_out.subset(60)
    every, some = prepare_questions(held_out, words), prepare_questions(held_out, words, most=21)
    assert 21 <= len(some) < 21 + len(SCENE_QUESTIONS)
    assert (some.captions.token_NT == every.captions.token_NT[: len(some)]).all()
    assert some.row_M[-1] != every.row_M[len(some)]


def test_all_own_questions_are_asked_but_those_that_are_too_long_or_broken(pairs, words):
    short = Question("own", ("is", "it", "red"), ("no",))
    fits = Question("own", ("red",) * 22, ("red",))  # one token a word, and end-of-text
    long = Question("own", ("red",) * 23, ("red",))
    asked = prepare_questions(Own(pairs.held_out, [[short, fits], None, [long, short], []]), words)
    assert asked.row_M.tolist() == [0, 0, 2]
    assert asked.answer_M.tolist() == ["no", "red", "no"]
    assert asked.num_left_out == 2
    assert asked.captions.text_len_N[1] == 24
