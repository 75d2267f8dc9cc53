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
# The file of each study, in which it is the variable of its name in capitals.
FILES = {
    "sensitivity": "sensitivity",
    "prefix_ratio": "prefix_ratio",
    "prefix_distribution": "prefix_distribution",
    "encoder_attention": "architecture",
    "loss_weight": "loss_weight",
    "loss_form": "objectives",
    "decoder_width": "decoder",
    "decoder_depth": "decoder",
    "decoder_size": "decoder",
    "decoder_sharing": "decoder",
    "objective": "objectives",
    "optimizer": "training",
    "sample_efficiency": "training",
    "batch_size": "training",
    "caption_order": "decoder",
    "eos": "objectives",
    "norm_ffn": "architecture",
    "positions": "architecture",
    "patch_order": "architecture",
    "crop_scale": "crop_scale",
    "data_mix": "data_mix",
    "synthetic_fraction": "synthetic_fraction",
    "scaling": "scaling",
    "resolution": "scaling",
    "high_res_adaptation": "scaling",
}


def _check(name: str, item: "Study") -> None:
    if not re.fullmatch(r"\w+", name):
        raise UsageError(f"a study is called {short(name)}; use letters, digits and underscores")


STUDIES: "Registry[Study]" = Registry(
    "sweep", {name: f"aimv2.ablations.studies.{file}:{name.upper()}" for name, file in FILES.items()}, _check
)


def add_study(**values: Any) -> "Study":
    """Add a study of a plug-in, with values as ``Study`` takes them, and return it; ``sweep=`` is its slug."""
    from aimv2.ablations.study import Study

    study = Study(**values)
    return STUDIES.add(study.slug, study)


@cache
def questions() -> Mapping[str, str]:
    """Return the question of every study by its name, read from the source."""
    return {name: _question(name) for name in FILES}


def _question(name: str) -> str:
    """Return the ``question`` of the call that makes the study, which is a plain string as its ``slug`` is."""
    for node in ast.walk(ast.parse((FOLDER / f"{FILES[name]}.py").read_text())):
        if isinstance(node, ast.Call):
            values = {word.arg: word.value for word in node.keywords if word.arg in ("slug", "question")}
            if len(values) > 1 and ast.literal_eval(values["slug"]) == name:
                return str(ast.literal_eval(values["question"]))
    raise AssertionError(f"{FILES[name]}.py has no study {name}")
