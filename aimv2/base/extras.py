"""Packages that not every command needs, and the extra of this package that installs each."""

from collections.abc import Mapping
from importlib.util import find_spec

from aimv2.base.errors import UsageError

# By the name that is imported; pyproject.toml has the same (tests/test_pyproject.py).
EXTRAS: Mapping[str, str] = {
    **dict.fromkeys(("matplotlib", "seaborn"), "report"),
    **dict.fromkeys(
        (
            *("torch", "safetensors", "tokenizers", "ftfy", "fvcore", "sklearn", "PIL", "tensorboard"),
            *("webdataset", "braceexpand", "fsspec", "aiohttp", "imagehash", "optuna", "cmaes", "polars"),
        ),
        "train",
    ),
}


def missing(error: ModuleNotFoundError, command: str) -> UsageError:
    """Return the sentence for a package that a command needs and that is not installed.

    Raises:
        ModuleNotFoundError: it is a package of no extra, whose absence is a bug.
    """
    name = str(error.name).partition(".")[0]
    if name not in EXTRAS:
        raise error
    return UsageError(f"{command} needs {name}; run: pip install 'aimv2-ablations[{EXTRAS[name]}]'")


def require(name: str, command: str) -> None:
    """Refuse a command before it starts what needs a package.

    Raises:
        UsageError: the package is not installed.
    """
    if find_spec(name) is None:
        raise missing(ModuleNotFoundError(name=name), command)
