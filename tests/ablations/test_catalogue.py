"""The catalogue has every study under its name."""

from importlib import import_module
from pathlib import Path

from aimv2.ablations import studies
from aimv2.ablations.catalogue import FILES, STUDIES, questions
from aimv2.ablations.study import Study


def test_every_study_file_is_in_the_catalogue_under_its_name():
    files = {path.stem for path in Path(studies.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(FILES.values()) == files
    assert all(study.slug == name for name, study in STUDIES.items())
    modules = [import_module(f"{studies.__name__}.{name}") for name in sorted(files)]
    defined = {id(value) for module in modules for value in vars(module).values() if isinstance(value, Study)}
    assert defined == set(map(id, STUDIES.values())), "a file of several studies has no other"


def test_the_questions_that_are_read_from_the_source_are_those_of_the_studies():
    assert questions() == {name: study.question for name, study in STUDIES.items()}
    assert list(questions()) == list(FILES)
