from aimv2.datasets.words import worded


def test_content_words_are_all_but_function_words():
    caption = worded("The  DOG&amp;cat, on 2 red\nsofas!")
    assert caption.text == "the dogcat on 2 red sofas"
    assert caption.classes == ("other", "word", "other", "word", "word", "word")


def test_every_word_of_another_language_is_a_content_word():
    assert set(worded("собака на диване").classes) == {"word"}


def test_a_caption_of_punctuation_has_no_words():
    assert worded(" ... !").words == ()
