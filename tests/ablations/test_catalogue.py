from pathlib import Path

from aimv2.ablations import studies
from aimv2.ablations.catalogue import STUDIES


def test_every_study_file_is_in_the_catalogue_under_its_name():
    files = {path.stem for path in Path(studies.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(STUDIES) == files
    assert all(study.slug == name for name, study in STUDIES.items())
