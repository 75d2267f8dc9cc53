"""All studies by their names on the command line, in the order of listings."""

import re
from typing import Any

from aimv2.ablations.names import NAMES
from aimv2.ablations.study import Study
from aimv2.base.errors import UsageError, short
from aimv2.base.plugins import Registry


def _check(name: str, item: Study) -> None:
    if not re.fullmatch(r"\w+", name):
        raise UsageError(f"a study is called {short(name)}; use letters, digits and underscores")


STUDIES: Registry[Study] = Registry("sweep", {name: f"aimv2.ablations.studies.{name}:STUDY" for name in NAMES}, _check)


def add_study(**values: Any) -> Study:
    """Add a study of a plug-in, and return it; ``sweep=`` is its slug.

    Args:
        values: as ``Study`` takes them.

    Raises:
        UsageError: its name is taken.
    """
    study = Study(**values)
    return STUDIES.add(study.slug, study)
