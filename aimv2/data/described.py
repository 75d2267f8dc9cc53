"""Sources and labelled sets that a YAML file describes. The core knows them by this interface only.

The package that reads them is a plug-in: it is imported when a config names such a file, and the core runs without it.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig, is_described
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CaptionKind, Sides
from aimv2.data.tasks import TransferSet

PLUGIN = "aimv2.datasets.plugin"


class DescribedData(Protocol):
    """The functions of the plug-in. Each raises UsageError for a description or an index that cannot be used."""

    def open_source(self, source: str, config: DataConfig) -> Sides:
        """Return the training and held-out pairs of a source."""

    def check(self, path: str) -> None:
        """Compare the files of a source or a labelled set with those that were indexed, without reading them.

        Raises:
            UsageError: a file is missing, new, or has another size or time.
        """

    def source_version(self, source: str) -> str:
        """Return a digest of a source's indexed samples and of what its description does to them."""

    def set_version(self, path: str) -> str:
        """Return a digest of a labelled set's indexed content."""

    def caption_kinds(self, source: str) -> tuple[CaptionKind, ...]:
        """Return the kinds of captions that a source has."""

    def own_augment(self, source: str) -> Mapping[str, float]:
        """Return the values of ``augment`` that a source sets itself, by name."""

    def has_questions(self, source: str) -> bool:
        """True if a source's description names a field of questions."""

    def source_licence(self, source: str) -> str:
        """Return the licence that a source's description states; empty if it states none."""

    def set_licence(self, path: str) -> str:
        """Return the licence that a labelled set's description states; empty if it states none."""

    def labelled_sets(self, config: RunConfig) -> list[TransferSet]:
        """Return the sets of ``evaluation.sets``, each with one task of the set's name."""

    def record_content(self, folder: Path, earlier: Iterable[Path], config: RunConfig, fingerprint: str) -> None:
        """Record the content of sources and labelled sets in the folder of an attempt.

        Args:
            earlier: folders of earlier attempts at the run, newest first.
            fingerprint: of the data as it is now; that in the config is of the data that the run's name stands for.

        Raises:
            RunFailedError: the fingerprints differ (cause ``data``); the message says how the content does.
        """


def described() -> DescribedData:
    """Return the plug-in.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return cast(DescribedData, import_module(PLUGIN))
    except ModuleNotFoundError as error:
        if not PLUGIN.startswith(str(error.name)):
            raise
        raise UsageError(f"data in files is read by {PLUGIN.rpartition('.')[0]}, which is not installed") from error


def check_finished(configs: Iterable[RunConfig]) -> None:
    """Compare the data of finished runs with what was indexed, since these runs read it no more.

    Raises:
        UsageError: a file is missing, new, or has another size or time.
    """
    for path in dict.fromkeys(path for config in configs for path in descriptions_of(config)):
        described().check(path)


def descriptions_of(config: RunConfig) -> list[str]:
    """Return the descriptions of a run's sources and labelled sets in files."""
    return [*filter(is_described, config.data.sources), *config.evaluation.sets]


def shares_of_captions(data: DataConfig) -> str:
    """Return in words how often training shows captions of each kind; empty unless a source in files has both.

    Raises:
        UsageError: a description cannot be read.
    """
    weights = data.weights or [1] * len(data.sources)
    shares = {
        name: data.dense_share(number)
        for number, (name, source, weight) in enumerate(zip(data.names, data.sources, weights, strict=True))
        if weight and is_described(source) and len(described().caption_kinds(source)) > 1
    }
    if not shares:
        return ""
    each = {name: f"{100 * share:g} % dense, {100 * (1 - share):g} % short" for name, share in shares.items()}
    is_same = len(shares) == len(data.sources) and len(set(each.values())) == 1
    text = each.popitem()[1] if is_same else "; ".join(f"{name} {words}" for name, words in each.items())
    if data.dense_fractions is None:
        return f"captions: {text} (data.dense_fraction={data.dense_fraction:g})"
    return f"captions: {text} (data.dense_fractions=[{','.join(f'{share:g}' for share in data.dense_fractions)}])"
