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


def _check(name: str, item: "Study") -> None:
    if not re.fullmatch(r"\w+", name):
        raise UsageError(f"a study is called {short(name)}; use letters, digits and underscores")


STUDIES: "Registry[Study]" = Registry(
    "sweep", {name: f"aimv2.ablations.studies.{name}:STUDY" for name in NAMES}, _check
)


def add_study(**values: Any) -> "Study":
    """Add a study of a plug-in, with values as ``Study`` takes them, and return it; ``sweep=`` is its slug."""
    from aimv2.ablations.study import Study

    study = Study(**values)
    return STUDIES.add(study.slug, study)


@cache
def questions() -> Mapping[str, str]:
    """Return the question of every study by its name, read from the source."""
    return {name: _question(FOLDER / f"{name}.py") for name in NAMES}


def _question(path: Path) -> str:
    """Return the ``question`` of the call that makes the study, which is a plain string."""
    keywords = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.keyword))
    return next(str(ast.literal_eval(keyword.value)) for keyword in keywords if keyword.arg == "question")
