"""Records of others: archives of ``manage.py publish study``, checked and copied to ``records/``, apart from our own.

Nothing in an archive is executed or unpickled, and only the files named here are copied. What was replayed here is in
``status.json`` beside them.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

import pydantic.dataclasses
from pydantic import NonNegativeFloat, TypeAdapter, ValidationError

from aimv2.ablations.request import Request
from aimv2.ablations.study import Study
from aimv2.analysis.evidence.recorded import FILE
from aimv2.analysis.evidence.records import Records, unpack
from aimv2.base.archive import Archive
from aimv2.base.errors import UsageError, short, some
from aimv2.base.files import read_json, replacing, write_json
from aimv2.config.data_config import CHECKED

FOLDER = "records"
PAGES = "others"  # the folder, in that of reports, of their pages
STATUS = "status.json"
CARD, VERSIONS = "README.md", "versions.json"
MAX_BYTES = {FILE: 2**28, CARD: 2**22, VERSIONS: 2**24}
MARKUP = re.compile(r"[<>`|\\]|\][\[(:]")  # of HTML, code, tables and links
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz")  # or what may hold one


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class Replayed:
    """A run of the records that was executed again.

    Attributes:
        date: in UTC, ``2026-03-01``.
        hardware: on which, with threads.
        code: digest of the code that executed it.
        tolerance: relative difference up to which values count as equal; 0 is to the last bit.
        is_equal: True if no value differs by more than the tolerance, and none is missing.
    """

    run: str
    date: str
    hardware: str
    code: str
    tolerance: NonNegativeFloat
    is_equal: bool


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class Status:
    """What was done with records of others here.

    Attributes:
        replayed: True if a run was executed again with equal values, and none with other values.
        archive: SHA-256 of the checksums of the archive that they are from.
        added: the date.
    """

    replayed: bool
    archive: str
    added: str
    replays: tuple[Replayed, ...] = ()

    def described(self, num_runs: int) -> str:
        """Return in words whether they were replayed, where and when."""
        if not self.replays:
            return "not replayed"
        equal = [one for one in self.replays if one.is_equal]
        replayed, other = {one.run for one in self.replays}, {one.run for one in self.replays if not one.is_equal}
        if other:
            return f"replayed, and {len(other)} of {len(replayed)} runs have other values"
        most = max(one.tolerance for one in equal)
        how = f"within {most:g} of each value" if most else "equal to the last bit"
        where = "; ".join(dict.fromkeys(f"{one.hardware}, {one.date}" for one in equal))
        return f"replayed: {len(replayed)} of {num_runs} runs, {how} ({where})"


@dataclass(frozen=True, eq=False)
class OthersRecords:
    """Records of others that were added.

    Attributes:
        name: of their folder, ``<study>-<digest of the records>``.
    """

    name: str
    records: Records
    status: Status = field(compare=False)

    @property
    def described(self) -> str:
        """Whether they were replayed, in words."""
        return self.status.described(len(self.records.evidence.runs))


def check_others(packed: bytes, studies: Mapping[str, Study], name: str) -> Records:
    """Return records that somebody else has written.

    Args:
        name: of the file, for the message of an error.

    Raises:
        UsageError: the file is too large or has columns of other kinds, its runs are not those of its request, a run's
            name is not that of its config, or a text that pages show is markup.
    """
    from aimv2.analysis.evidence.foreign import run_names  # here, because own records are read without pyarrow

    names = run_names(packed, MAX_BYTES[FILE], name)
    records = unpack(packed, studies, name)
    for cell, recorded in zip(records.request.cells, names, strict=True):
        if cell.name != recorded:
            raise UsageError(
                f"{name}: run {short(recorded)} of arm {short(cell.arm)}, seed {cell.seed}, is not the name of its"
                f" config, which is {cell.name}"
            )
    _check_no_markup(records.request, name)
    return records


def _check_no_markup(request: Request, name: str) -> None:
    """Refuse text of a request, which pages show as it is, that Markdown or HTML would take for more than text."""
    study = request.study
    labels = [arm.label for arm in study.arms.values()]
    shown = [*study.arms, *labels, *study.notes, *study.stand_ins, *study.stand_ins.values(), study.suffix]
    shown += [text for metric in request.metrics for text in (metric.name, metric.unit, metric.plugin, metric.typed)]
    shown += [text for cell in request.cells for text in (cell.arm, cell.config.label)]
    if found := next((text for text in shown if MARKUP.search(text) or not text.isprintable()), None):
        raise UsageError(f"{name}: {short(found)} is not plain text, and would be shown as markup")


def keep(archive: Archive, records: Records, packed: bytes, records_dir: Path, today: str) -> str:
    """Copy the records of a checked archive, with its card and versions, to a folder of their own.

    Args:
        records: those of ``packed``, the archive's file.
        today: the date.

    Returns:
        The name of the folder.

    Raises:
        UsageError: they are there already, or the folder cannot be written; then nothing is.
    """
    name = f"{records.request.folder}-{hashlib.sha256(packed).hexdigest()[:12]}"
    folder = records_dir / name
    if folder.exists():
        raise UsageError(f"{folder} has these records already")
    texts = {one: archive.read(one, MAX_BYTES[one]) for one in (CARD, VERSIONS) if one in archive.sums}
    digest = hashlib.sha256("".join(f"{one} {digest}\n" for one, digest in sorted(archive.sums.items())).encode())
    status = Status(replayed=False, archive=digest.hexdigest(), added=today)
    try:
        records_dir.mkdir(parents=True, exist_ok=True)
        with replacing(folder, only_new=True) as partial:
            partial.mkdir()
            for one, content in {FILE: packed, **texts}.items():
                (partial / one).write_bytes(content)
            write_json(partial / STATUS, asdict(status))
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be written: {error.strerror}") from error
    return name


def check_no_pickle(archive: Archive) -> None:
    """Refuse an archive that has a file in which a pickle may be."""
    if found := [name for name in archive.sums if PurePosixPath(name).suffix.lower() in PICKLES]:
        raise UsageError(f"{archive.path} has files that may run code when they are read: {some(found)}")


def others_names(records_dir: Path) -> list[str]:
    """Return the names of the records of others that were added."""
    return sorted(path.parent.name for path in records_dir.glob(f"*/{STATUS}") if (path.parent / FILE).is_file())


def read_others(records_dir: Path, name: str, studies: Mapping[str, Study]) -> OthersRecords:
    """Return records of others that were added; errors as in ``check_others``."""
    if name not in (known := others_names(records_dir)):
        raise UsageError(f"{records_dir} has no records {name!r} of others; it has: {', '.join(known) or 'none'}")
    path = records_dir / name / FILE
    records = check_others(path.read_bytes(), studies, str(path))
    return OthersRecords(name, records, _status(records_dir / name / STATUS))


def mark_replayed(records_dir: Path, name: str, replayed: Replayed) -> Status:
    """Record that a run of these records was executed again, in the place of an earlier time on the same hardware."""
    path = records_dir / name / STATUS
    status, own = _status(path), (replayed.run, replayed.hardware)
    replays = (*(one for one in status.replays if (one.run, one.hardware) != own), replayed)
    values = asdict(status) | {"replays": [asdict(one) for one in replays]}
    write_json(path, values | {"replayed": all(one.is_equal for one in replays)})
    return _status(path)


def _status(path: Path) -> Status:
    try:
        return TypeAdapter(Status).validate_python(read_json(path))
    except ValidationError as error:
        raise UsageError(f"{path} is not the status of records of others; add them again") from error
