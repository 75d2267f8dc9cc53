"""What ``manage.py publish`` writes for others: a run as weights that load elsewhere, and a study as an archive.

No name of a machine or a user is in either: values that have some are left out, and what has one in spite of that is
refused.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import OF_ONE_LAUNCH, read_request, request_to_json, requested_names
from aimv2.analysis.document.write import write
from aimv2.analysis.evidence.others import CARD, VERSIONS
from aimv2.analysis.evidence.recorded import FILE
from aimv2.analysis.evidence.records import Records, pack, unpack
from aimv2.analysis.judgement.findings import Findings, findings_of
from aimv2.analysis.report import records_of
from aimv2.analysis.sections.card import dataset_card, verdict_lines
from aimv2.analysis.sections.study import document
from aimv2.base.archive import PrivateNames, files_of, write_sums, write_zip
from aimv2.base.errors import UsageError, some
from aimv2.base.files import check_new, read_json, replacing, user, write_json
from aimv2.base.plugins import FROZEN
from aimv2.run.reuse import WEIGHTS
from aimv2.runs.provenance import JOINT, PACKAGE, code_digest, digest
from aimv2.runs.record import RunFolder
from aimv2.sweeps.freeze import FOLDER as CODE
from aimv2.sweeps.freeze import freeze

OF_THE_SETUP = ("python", "versions", "hardware", "threads", "code", "commit", "plugins", "data", "tokenizer")
# First parts of keys of a launch that are about the place where its runs ran, not about what they are.
ABOUT_PLACES = (*OF_ONE_LAUNCH, "executor", "runs_dir", "reports_dir", "limit", "rates", "log", "loader", "checkpoint")
FOLDERS = re.compile(r"[^\s,=\[\]'\"]*[/\\]")  # before the name of a file
LICENCE = "LICENSE"
HEADER = 2**22  # bytes of weights that name what is in them


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """What ``publish`` takes beside names.

    Attributes:
        to: a new folder; the archive of a study is also written beside it, with the suffix ``.zip``.
        licence: of what is published, an SPDX identifier; empty is left open.
        reports_dir: has the reports whose sensitivity counts; None is that of the launch.
        study: that of the run, where several have it; empty chooses the only one.
        layout: of the weights of a run.
        code: False to publish a study without its code.
        weights: True to publish a study with the weights of its runs.
    """

    to: Path
    licence: str = ""
    reports_dir: Path | None = None
    study: str = ""
    layout: str = "transformers"
    code: bool = True
    weights: bool = False


def publish_run(run: RunFolder, options: PublishOptions, say: Callable[[str], None]) -> None:
    """Write the weights of a finished run with its card, which has the verdicts of its study.

    Raises:
        UsageError: the run is not done, several studies have it and none is named, or the weights cannot be exported.
    """
    from aimv2.tools.weights.card import run_card  # here, since torch takes seconds to load
    from aimv2.tools.weights.command import export

    if not run.is_done:
        raise UsageError(f"run {run.name} is not done yet; only a finished run can be published")
    check_new(options.to)
    runs_dir, name = run.path.parent, _study_of(run, options.study)
    text = partial(run_card, run.path, options.layout, licence=options.licence)
    if name:
        request = read_request(runs_dir, name, STUDIES, owner=user())
        found = findings_of(records_of(request, runs_dir), options.reports_dir or request.reports_dir)
        text = partial(text, verdicts=verdict_lines(found))
    with _checked(options.to, _private(runs_dir, [run])) as folder:
        export(run.path, folder, options.layout, text)
    say(f"{options.to}: {', '.join(files_of(options.to))}")
    say(f"its card has the verdicts of {name}" if name else "no study has this run, so its card has no verdicts")


def _study_of(run: RunFolder, named: str) -> str:
    """Return the study that has a run: the one that was named, or the only one; empty if there is none."""
    runs_dir = run.path.parent
    having = [one for one in requested_names(runs_dir) if run.name in _runs_of(runs_dir, one)]
    if named and named not in having:
        raise UsageError(f"study={named} does not have run {run.name}; these have it: {', '.join(having) or 'none'}")
    if not named and len(having) > 1:
        raise UsageError(f"run {run.name} is of several studies; type study= and one of: {', '.join(having)}")
    return named or next(iter(having), "")


def _runs_of(runs_dir: Path, study: str) -> set[str]:
    return {cell.name for cell in read_request(runs_dir, study, STUDIES, owner=user()).cells}


def publish_study(runs_dir: Path, name: str, options: PublishOptions, say: Callable[[str], None]) -> None:
    """Write an archive of a study: records, report, request, versions, code, card, licence and checksums.

    The same runs give the same bytes.

    Raises:
        UsageError: no run is done, the code of a run is not there any more, or a file has a name of this machine.
    """
    request = read_request(runs_dir, name, STUDIES, owner=user())
    target, archive = options.to, options.to.with_name(f"{options.to.name}.zip")
    check_new(target)
    if archive.exists():
        raise UsageError(f"{archive} exists; choose another to=")
    records = _shareable(records_of(request, runs_dir))
    done = [RunFolder(runs_dir, run) for run in dict.fromkeys(records.evidence.runs["run"])]
    if not done:
        raise UsageError(f"no run of {name} is done yet; there is nothing to publish")
    packed = pack(records)
    found = findings_of(unpack(packed, STUDIES), options.reports_dir or request.reports_dir)
    snapshots = _snapshots(runs_dir, found) if options.code else {}
    with _archived(archive) as zipped, _checked(target, _private(runs_dir, done)) as folder:
        folder.mkdir()
        (folder / FILE).write_bytes(packed)
        write(document(found, {}), folder / "report")
        write_json(folder / "request.json", request_to_json(records.request))
        write_json(folder / VERSIONS, _versions(done))
        for code, snapshot in snapshots.items():
            shutil.copytree(snapshot, folder / CODE / code, ignore=shutil.ignore_patterns("__pycache__"))
        for run in done if options.weights else []:
            if (weights := run.file(WEIGHTS)).exists():
                (folder / "weights").mkdir(exist_ok=True)
                shutil.copyfile(weights, folder / "weights" / f"{run.name}.safetensors")
        (folder / LICENCE).write_text(_licence_text())
        (folder / CARD).write_text(dataset_card(found, options.licence))
        write_sums(folder)
        write_zip(folder, zipped, name)
    say(f"{target}: {len(files_of(target))} files; {archive}: {archive.stat().st_size / 1e6:.1f} MB")


def _shareable(records: Records) -> Records:
    """Return records whose arguments and metrics name files without folders, and whose failures have causes alone."""
    request = records.request
    words = shareable_arguments(request.arguments)
    metrics = tuple(replace(metric, typed=FOLDERS.sub("", metric.typed)) for metric in request.metrics)
    missing = records.evidence.missing
    if len(missing):
        missing = missing.assign(reason=[_placeless_reason(str(reason)) for reason in missing["reason"]])
    evidence = replace(records.evidence, missing=missing)
    return replace(records, request=replace(request, arguments=words, metrics=metrics), evidence=evidence)


def _placeless_reason(reason: str) -> str:
    """Return why a run has no result, without the path or the message of an error that may have one."""
    cause = reason.partition(":")[0]
    return "its record cannot be read" if set(cause) & set("/\\") else cause


def shareable_arguments(words: Iterable[str]) -> tuple[str, ...]:
    """Return what a launch was given of its runs: not where they ran, and of files the names alone."""
    keys = ((word, word.partition("=")[0]) for word in words)
    kept = (word for word, key in keys if key.split(".")[0] not in ABOUT_PLACES and key != "data.cache_dir")
    return tuple(FOLDERS.sub("", word) for word in kept)


def _versions(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Return what runs were made with, once for all that share it, with their names."""
    groups: dict[str, dict[str, Any]] = {}
    for run in sorted(runs, key=lambda one: one.name):
        manifest = read_json(run.file("manifest.json"))
        own = {key: manifest.get(key) for key in OF_THE_SETUP}
        groups.setdefault(json.dumps(own, sort_keys=True), own | {"runs": []})["runs"].append(run.name)
    return list(groups.values())


def _snapshots(runs_dir: Path, found: Findings) -> dict[str, Path]:
    """Return the snapshot of each code of these runs, by its digest.

    Raises:
        UsageError: one is not there, and is not the code of this process.
    """
    found_here = sorted(path.parent for path in (runs_dir / CODE).glob(f"[!.]*/{FROZEN}"))
    there = {code_digest(path / "aimv2"): path for path in found_here}
    needed = dict.fromkeys(code for codes in found.evidence.codes for code in codes.split(JOINT))
    if digest() in needed and digest() not in there:
        there[digest()] = freeze(runs_dir)
    if gone := [code for code in needed if code not in there]:
        raise UsageError(
            f"the code {some(gone)} of these runs is not in {runs_dir / CODE} any more; code=false publishes without"
        )
    return {code: there[code] for code in needed}


@contextlib.contextmanager
def _archived(archive: Path) -> Iterator[Path]:
    """Yield the place of a file that takes its name at the end, whole or not at all."""
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with replacing(archive.resolve()) as partial_file:
            yield partial_file
    except OSError as error:
        raise UsageError(f"{archive} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _checked(target: Path, private: PrivateNames) -> Iterator[Path]:
    """Yield a folder that takes its place at the end, unless a file in it has one of these names.

    Raises:
        UsageError: naming the file and what is in it; then nothing is written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target.resolve(), only_new=True) as folder:
            yield folder
            for name in files_of(folder):
                if found := private.found_in(name.encode()) or private.found_in(_text_of(folder / name)):
                    raise UsageError(
                        f"nothing was written, since {name} has {found!r}, a folder, host or user of this machine"
                    )
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error


def _text_of(path: Path) -> bytes:
    """Return what can be read in a file: of records all values, of weights their header."""
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            about = b"".join(file.metadata.metadata.values())
            return json.dumps(file.read().to_pylist(), ensure_ascii=False).encode() + about
    with path.open("rb") as stream:
        return stream.read(HEADER if path.suffix == ".safetensors" else -1)


def _licence_text() -> str:
    """Return the licence of the code, from the clone or the installed package."""
    beside = PACKAGE.parent / LICENCE
    if beside.exists():
        return beside.read_text()
    files = metadata.files("aimv2-ablations") or []
    return next(one.read_text() for one in files if one.name == LICENCE)


def _private(runs_dir: Path, runs: Iterable[RunFolder]) -> PrivateNames:
    """Return the names of this machine and user, and of those who launched and executed these runs."""
    manifests = [read_json(path) for run in runs for path in sorted(run.path.glob("attempts/*/manifest.json"))]
    hosts = {str(one.get("host") or "") for one in manifests}
    requests = (runs_dir / "studies").glob("*/*.json")
    owners = {str(found.get("owner") or "") for path in requests if isinstance(found := read_json(path), dict)}
    return PrivateNames.here(sorted(hosts | owners), _source())


def _source() -> str:
    """Return the text of this code."""
    found = []
    for folder, folders, names in os.walk(PACKAGE, followlinks=True):
        folders[:] = [name for name in folders if Path(folder, name) != PACKAGE / "reports"]
        found += [Path(folder, name).read_text() for name in names if name.endswith((".py", ".j2", ".yaml"))]
    return "\n".join(found)
