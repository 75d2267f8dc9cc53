"""The names of all studies, in the order of listings, and their questions without an import of the studies."""

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

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


@cache
def questions() -> Mapping[str, str]:
    """Return the question of every study by its name, read from the source: helps and completions import no study."""
    return {name: _question(FOLDER / f"{name}.py") for name in NAMES}


def _question(path: Path) -> str:
    """Return the ``question`` of the call that makes the study, which is a plain string."""
    keywords = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.keyword))
    return next(str(ast.literal_eval(keyword.value)) for keyword in keywords if keyword.arg == "question")
