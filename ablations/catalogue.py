"""All studies by their names on the command line, in the order of listings; none is imported before it is used."""

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimv2.base.errors import UsageError, short
from aimv2.base.plugins import Registry

if TYPE_CHECKING:  # helps load fast
    from aimv2.ablations.study import Study

FOLDER = Path(__file__).parent / "studies"
# Files that have several studies, each in a variable that is its name in capitals; the others have one, STUDY.
FAMILIES = {
    "architecture": ("encoder_attention", "norm_ffn", "positions", "patch_order"),
    "decoder": ("decoder_width", "decoder_depth", "decoder_size", "decoder_sharing", "caption_order"),
    "objectives": ("objective", "loss_form", "eos"),
    "scaling": ("scaling", "resolution", "high_res_adaptation"),
    "training": ("optimizer", "sample_efficiency", "batch_size"),
}
NAMES = (
    "sensitivity",
    "prefix_ratio",
    "prefix_distribution",
    "encoder_attention",
    "loss_weight",
    "loss_form",
    "decoder_width",
    "decoder_depth",
    "decoder_size",
    "decoder_sharing",
    "objective",
    "optimizer",
    "sample_efficiency",
    "batch_size",
    "caption_order",
    "eos",
    "norm_ffn",
    "positions",
    "patch_order",
    "crop_scale",
    "data_mix",
    "synthetic_fraction",
    "scaling",
    "resolution",
    "high_res_adaptation",
)


def module_of(name: str) -> str:
    """Return the name of the file that defines a study, which lies in ``ablations/studies/``."""
    return next((family for family, names in FAMILIES.items() if name in names), name)


def _place(name: str) -> str:
    family = module_of(name)
    return f"aimv2.ablations.studies.{family}:{name.upper() if family in FAMILIES else 'STUDY'}"


def _check(name: str, item: "Study") -> None:
    if not re.fullmatch(r"\w+", name):
        raise UsageError(f"a study is called {short(name)}; use letters, digits and underscores")


STUDIES: "Registry[Study]" = Registry("sweep", {name: _place(name) for name in NAMES}, _check)


def add_study(**values: Any) -> "Study":
    """Add a study of a plug-in, with values as ``Study`` takes them, and return it; ``sweep=`` is its slug."""
    from aimv2.ablations.study import Study

    study = Study(**values)
    return STUDIES.add(study.slug, study)


@cache
def questions() -> Mapping[str, str]:
    """Return the question of every study by its name, read from the source."""
    return {name: _question(name) for name in NAMES}


def _question(name: str) -> str:
    """Return the ``question`` of the call that makes the study, which is a plain string as its ``slug`` is."""
    for node in ast.walk(ast.parse((FOLDER / f"{module_of(name)}.py").read_text())):
        if isinstance(node, ast.Call):
            values = {word.arg: word.value for word in node.keywords if word.arg in ("slug", "question")}
            if len(values) > 1 and ast.literal_eval(values["slug"]) == name:
                return str(ast.literal_eval(values["question"]))
    raise AssertionError(f"{module_of(name)}.py has no study {name}")
