from aimv2.ablations.catalogue import NAMES, STUDIES, questions


def test_the_questions_that_are_read_from_the_source_are_those_of_the_studies():
    assert questions() == {name: study.question for name, study in STUDIES.items()}
    assert list(questions()) == list(NAMES)
