"""python analysis/report.py publish: a run as weights that load elsewhere, or a study as a zip file, for others.

No name of a machine or a user is in either: values that have some are left out, and what has one in spite of that is
refused.
"""

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pyarrow.parquet as pq
import yaml
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.recorded_runs import FILE
from aimv2.ablations.request import OF_ONE_LAUNCH, read_request, requested_names
from aimv2.analysis.document.template import ENVIRONMENT
from aimv2.analysis.document.write import write
from aimv2.analysis.evidence.records import Records, pack, records_of, unpack
from aimv2.analysis.judgement.findings import Findings, findings_of
from aimv2.analysis.sections.study import document
from aimv2.analysis.sections.summary import answer
from aimv2.analysis.sections.tables import seen
from aimv2.base.archive import files_of, write_zip
from aimv2.base.errors import UsageError, count, escape
from aimv2.base.files import check_new, read_json, replacing, user, write_json
from aimv2.config.arguments import checked, key_values
from aimv2.run.price import duration
from aimv2.runs.provenance import PACKAGE
from aimv2.runs.record import RunFolder, named_run
from aimv2.tools.weights_command import export, licence_metadata, run_card

OF_THE_SETUP = ("python", "versions", "hardware", "threads", "code", "commit", "plugins", "data", "tokenizer")
# First parts of keys of a launch that are about the place where its runs ran, not about what they are.
ABOUT_PLACES = (*OF_ONE_LAUNCH, "executor", "runs_dir", "reports_dir", "limit", "rates", "log", "loader", "checkpoint")
FOLDERS = re.compile(r"[^\s,=\[\]'\"]*[/\\]")  # before the name of a file
WEIGHTS_SEARCHED = 2**22  # bytes of weights that are searched for private names


def publish(arguments: Sequence[str]) -> int:
    """Publish a run or a study."""
    of_run = {"study": "", "layout": "transformers"} if "run" in arguments[:1] else {}
    names, typed = _read(arguments, {"to": "", "license": "", "reports_dir": "", **of_run})
    if len(names) != 2 or names[0] not in ("run", "study"):
        raise UsageError("publish what? Type: publish run RUN to=FOLDER, or publish study STUDY to=FILE.zip")
    if not typed["to"]:
        raise UsageError("publish where? Type to= and a new folder, or for a study a new .zip")
    licence = _licence(typed["license"])
    to, runs_dir = Path(typed["to"]), Path(typed["runs_dir"])
    reports_dir = Path(typed["reports_dir"]) if typed["reports_dir"] else None
    if names[0] == "run":
        layout = checked("layout", Literal["transformers", "ml-aim"], typed["layout"])
        print(publish_run(named_run(runs_dir, names[1]), to, layout, typed["study"], licence, reports_dir))
    else:
        print(publish_study(runs_dir, names[1], to, licence, reports_dir))
    return 0


def _licence(typed: str) -> str:
    try:
        return canonicalize_license_expression(typed) if typed else ""
    except InvalidLicenseExpression as error:
        raise UsageError(f"license={typed!r} is not an SPDX identifier, such as CC-BY-4.0") from error


def _read(arguments: Sequence[str], keys: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the names and the values by key, with defaults."""
    defaults = {"runs_dir": "runs", **keys}
    typed = key_values([word for word in arguments if "=" in word], defaults)
    return [word for word in arguments if "=" not in word], defaults | typed


def publish_run(run: RunFolder, to: Path, layout: str, study: str, licence: str, reports_dir: Path | None) -> str:
    """Write the weights of a finished run with its card, which has the verdicts of its study; return what was written.

    Args:
        to: a new folder.
        study: that of the run, where several have it; empty chooses the only one.
        licence: of the weights, an SPDX identifier; empty is left open.
        reports_dir: has the reports whose sensitivity counts; None is that of the launch.

    Raises:
        UsageError: the run is not done, several studies have it and none is named, or the weights cannot be exported.
    """
    if not run.is_done:
        raise UsageError(f"run {run.name} is not done yet; only a finished run can be published")
    check_new(to)
    runs_dir, name = run.path.parent, _study_of(run, study)
    text = partial(run_card, run.path, layout, licence=licence)
    if name:
        request = read_request(runs_dir, name, STUDIES, owner=user())
        findings = findings_of(records_of(request, runs_dir), reports_dir or request.reports_dir)
        text = partial(text, verdicts=_verdict_lines(findings))
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with replacing(to.resolve(), only_new=True) as folder:
            export(run.path, folder, layout, text)
            _check_private(folder, [run])
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}") from error
    about = f"its card has the verdicts of {name}" if name else "no study has this run, so its card has no verdicts"
    return f"{to}: {', '.join(files_of(to))}\n{about}"


def _study_of(run: RunFolder, named: str) -> str:
    """Return the study that has a run: the one that was named, or the only one; empty if there is none."""
    runs_dir = run.path.parent
    requests = {name: read_request(runs_dir, name, STUDIES, owner=user()) for name in requested_names(runs_dir)}
    having = [name for name, request in requests.items() if run.name in {cell.name for cell in request.cells}]
    if named and named not in having:
        raise UsageError(f"study={named} does not have run {run.name}; these have it: {', '.join(having) or 'none'}")
    if not named and len(having) > 1:
        raise UsageError(f"run {run.name} is of several studies; type study= and one of: {', '.join(having)}")
    return named or next(iter(having), "")


def publish_study(runs_dir: Path, name: str, to: Path, licence: str, reports_dir: Path | None) -> str:
    """Write a zip file of a study: records with their report, versions, card and checksums; return what was written.

    The same runs give the same bytes. The arguments are those of ``publish_run``, but ``to`` is a new file.

    Raises:
        UsageError: no run is done, or a file has a name of this machine.
    """
    if to.suffix != ".zip":
        raise UsageError(f"to={to} must end in .zip; a study is published as a zip file")
    if to.exists():
        raise UsageError(f"{to} exists; choose another to=")
    request = read_request(runs_dir, name, STUDIES, owner=user())
    records = _shareable(records_of(request, runs_dir))
    done = [RunFolder(runs_dir, run) for run in dict.fromkeys(records.evidence.runs["run"])]
    if not done:
        raise UsageError(f"no run of {name} is done yet; there is nothing to publish")
    packed = pack(records)
    findings = findings_of(unpack(packed, STUDIES), reports_dir or request.reports_dir)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(document(findings, {FILE: packed}), folder / request.folder)
        write_json(folder / "versions.json", _versions(done))
        (folder / "README.md").write_text(_dataset_card(findings, licence))
        _check_private(folder, done)
        write_zip(folder, to)
        return f"{to}: {len(files_of(folder))} files, {to.stat().st_size / 1e6:.1f} MB"


def _verdict_lines(findings: Findings) -> list[str]:
    """Return the study's answer, and its verdict on each claim with what qualifies it."""
    lines = [answer(findings)]
    for name, verdict in findings.verdicts.items():
        word = "; ".join([f"**{verdict.word}**", *verdict.qualifications])
        lines.append(f"{name}: {CLAIMS[name].statement} At scale {findings.config.label}: {word}.")
    return lines


def _dataset_card(findings: Findings, licence: str) -> str:
    """Return the card of a study's archive as Markdown with the metadata that hubs of data sets read."""
    study, runs, name = findings.study, findings.evidence.runs, findings.request.folder
    metadata = {
        **licence_metadata(licence, "README.md#data"),
        "pretty_name": f"{name}: records of a study on AIMv2",
        "tags": ["aimv2", "ablation", "records"],
        "configs": [{"config_name": "default", "data_files": f"{name}/records.parquet"}],
    }
    time, flops = duration(float(runs["seconds"].sum())), float(runs["train_flops"].sum())
    arms = [
        f"{study.label(arm)}: {count(len(own), 'run')}, seeds {', '.join(map(str, sorted(own['seed'])))}"
        for arm in findings.present(list(runs["arm"].unique()))
        if len(own := runs[runs["arm"] == arm])
    ]
    return ENVIRONMENT.get_template("dataset_card.md.j2").render(
        metadata=yaml.safe_dump(metadata, sort_keys=False),
        name=name,
        question=escape(study.question),
        source=study.source,
        verdicts=_verdict_lines(findings),
        num_cells=len(findings.cells),
        num_runs=len(runs),
        sources=list(findings.evidence.credits["sources"]),
        sets=list(findings.evidence.credits["sets"]),
        arms=arms,
        cost=f"{flops:.3g} training FLOPs and {time} on {seen(findings.evidence, 'hardware')}.",
        scale=findings.config.label,
    )


def _shareable(records: Records) -> Records:
    """Return records whose arguments name files without folders, and whose failures have causes alone."""
    request, missing = records.request, records.evidence.missing
    words = shareable_arguments(request.arguments)
    causes = [str(reason).partition(":")[0] for reason in missing["reason"]]  # the message may have a path
    causes = ["its record cannot be read" if set(cause) & set("/\\") else cause for cause in causes]
    evidence = replace(records.evidence, missing=missing.assign(reason=causes) if len(missing) else missing)
    return replace(records, request=replace(request, arguments=words), evidence=evidence)


def shareable_arguments(words: Iterable[str]) -> tuple[str, ...]:
    """Return what a launch was given of its runs: not where they ran, and of files the names alone."""
    keys = ((word, word.partition("=")[0]) for word in words)
    kept = (word for word, key in keys if key.split(".")[0] not in ABOUT_PLACES and key != "data.cache_dir")
    return tuple(FOLDERS.sub("", word) for word in kept)


def _versions(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Return what runs were made with, once for all that share it, with their names."""
    groups: dict[str, dict[str, Any]] = {}
    for run in sorted(runs, key=lambda run: run.name):
        manifest = read_json(run.file("manifest.json"))
        setup = {key: manifest.get(key) for key in OF_THE_SETUP}
        groups.setdefault(json.dumps(setup, sort_keys=True), setup | {"runs": []})["runs"].append(run.name)
    return list(groups.values())


def _check_private(folder: Path, runs: Sequence[RunFolder]) -> None:
    """Refuse files that have the home folder, or the name of a user who launched, or of a host that executed, these
    runs.

    Names that are also words of the source, such as root, say nothing.
    """
    manifests = [read_json(path) for run in runs for path in run.path.glob("attempts/*/manifest.json")]
    hosts = {platform.node(), *(str(manifest.get("host") or "") for manifest in manifests)}
    requests = [read_json(path) for path in runs[0].path.parent.glob("studies/*/*.json")]
    users = {user(), os.environ.get("SUDO_USER", ""), *(str(request.get("owner") or "") for request in requests)}
    names = {re.escape(name) for name in {*users, *hosts, *(host.partition(".")[0] for host in hosts)} if len(name) > 2}
    source = "\n".join(path.read_text() for path in PACKAGE.glob("*/**/*.py"))
    words = [name for name in names if not re.search(rf"\b{name}\b", source, re.IGNORECASE)]
    home = [re.escape(str(Path.home()))] if len(Path.home().parts) > 1 else []
    private = re.compile(rf"(?<![\w.-])({'|'.join([*home, *words]) or '(?!)'})(?![\w-])", re.IGNORECASE)
    for name in files_of(folder):
        if match := private.search(f"{name}\n{_text_of(folder / name)}"):
            raise UsageError(
                f"nothing was written, since {name} has {match[0]!r}, a folder, host or user of this machine"
            )


def _text_of(path: Path) -> str:
    """Return what can be read in a file: of records all values, and of weights the beginning, which names them."""
    if path.suffix == ".parquet":
        metadata = b"\n".join((pq.read_metadata(path).metadata or {}).values())
        return f"{pq.read_table(path).to_pylist()} {metadata.decode(errors='ignore')}"
    with path.open("rb") as stream:
        return stream.read(WEIGHTS_SEARCHED if path.suffix == ".safetensors" else -1).decode(errors="ignore")
