"""What is published: weights that transformers loads, and an archive without a name of this machine."""

import json
import os
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.recorded_runs import FILE
from aimv2.ablations.request import read_request
from aimv2.analysis import report
from aimv2.analysis.evidence.records import read_records
from aimv2.analysis.publish import _dataset_card, _verdict_lines, publish_study, shareable_arguments
from aimv2.base.archive import files_of, unpack_zip
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, write_json
from aimv2.runs.failure import Failure
from aimv2.runs.provenance import digest
from aimv2.runs.record import RunFolder
from tests.helpers.finished_sweeps import requested
from tests.helpers.specimen import STUDY

USER, HOST, OWNER = "miaq7", "node17q", "zoeq8"


def study_of(runs_dir):
    return read_request(runs_dir, "prefix_ratio", STUDIES)


def trained(runs_dir):
    return next(RunFolder(runs_dir, cell.name) for cell in study_of(runs_dir).cells if cell.arm == "uniform")


def published(runs_dir, to):
    return publish_study(runs_dir, "prefix_ratio", to, "", to.parent)


def text_of(path):
    """What can be read in a file: the oracle unpacks it in its own way."""
    if path.suffix == ".parquet":
        return str(pq.read_table(path).to_pydict()) + str(pq.read_metadata(path).metadata)
    return path.read_bytes().decode("latin-1")


@pytest.fixture
def private(done, tmp_path, cache_dir, monkeypatch):
    """Runs in the home folder of a user on a host, which are named wherever a run or a launch names them."""
    home = tmp_path / "home" / USER
    runs_dir = shutil.copytree(done, home / "runs")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", USER)
    more = ("executor=slurm", f"executor.account={USER}", "sweep.seeds=2")
    request = requested(runs_dir, cache_dir, f"runs_dir={runs_dir}", *more)
    failed = next(cell for cell in request.cells if not RunFolder(runs_dir, cell.name).is_done)
    with RunFolder(runs_dir, failed.name).acquire(failed.config) as attempt:
        attempt.fail(Failure("data", f"{home}/digits is not there on {HOST}"), f"in {home}")
    for path in runs_dir.glob("*/attempts/*/manifest.json"):
        write_json(path, read_json(path) | {"host": HOST, "command": [f"{home}/launch.py"]})
    return runs_dir


@pytest.mark.exhaustive
def test_a_zip_file_of_a_study_names_no_host_user_or_folder_of_this_machine(private, tmp_path):
    path, folder = tmp_path / "out" / "study.zip", tmp_path / "unpacked"
    shown = published(private, path)
    unpack_zip(path, folder)
    for name in files_of(folder):
        found = [word for word in (str(tmp_path), USER, HOST) if word in text_of(folder / name).lower() + name]
        assert not found, (name, found)
    assert shown == f"{path}: {len(files_of(folder))} files, {path.stat().st_size / 1e6:.1f} MB"
    records = read_records(folder / "prefix_ratio" / FILE, STUDIES)
    assert [cell.name for cell in records.request.cells] == [cell.name for cell in study_of(private).cells]
    assert "data" in set(records.evidence.missing["reason"])
    assert {"README.md", "prefix_ratio/report.html"} <= set(files_of(folder))
    (versions,) = read_json(folder / "versions.json")
    assert (versions["code"], versions["runs"]) == (digest(), sorted(records.evidence.runs["run"]))
    assert report.main(["prefix_ratio", "--check", f"reports_dir={folder}"]) == 0


def test_the_command_of_an_archive_has_what_its_runs_are_and_no_place():
    typed = [
        *("plugins=[../mine/perceptron.py,b.py]", "sweep=perceptron_width", "epochs=30", "sweep.suffix=longer"),
        *("data.sources=[~/data/a.yaml,s3://bucket/b.yaml]", "start.weights=/home/me/w", "prefix.law=uniform"),
        *("executor=slurm", "executor.account=me", "runs_dir=/scratch/me", "rates=r.yaml", "limit=5EUR", "detach=true"),
        "data.cache_dir=/scratch",
    ]
    assert shareable_arguments(typed) == (
        *("plugins=[perceptron.py,b.py]", "sweep=perceptron_width", "epochs=30", "sweep.suffix=longer"),
        *("data.sources=[a.yaml,b.yaml]", "start.weights=w", "prefix.law=uniform"),
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [HOST, USER, OWNER, "home"])
def test_a_name_that_is_left_is_refused_and_nothing_is_written(private, tmp_path, name):
    name = str(private.parent) if name == "home" else name
    for path in private.glob("studies/*/*.json"):
        write_json(path, read_json(path) | {"owner": OWNER})
    for path in private.glob("*/attempts/*/manifest.json"):
        write_json(path, read_json(path) | {"tokenizer": f"of {name}"})
    with pytest.raises(UsageError, match=f"nothing was written, since versions.json has '{name}'"):
        published(private, tmp_path / "out" / "study.zip")
    assert not (tmp_path / "out").exists()


@pytest.mark.exhaustive
def test_the_same_runs_give_the_same_bytes(done, tmp_path):
    for name in ("one", "two"):
        published(done, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@given(
    folder=st.lists(st.from_regex(r"[a-z]{3,8}q7", fullmatch=True), min_size=1, max_size=3),
    file=st.from_regex(r"[a-z]{1,8}", fullmatch=True),
)
def test_a_config_keeps_its_name_and_loses_its_places(tiny, folder, file):
    place = "/".join(["", *folder])
    config = replace(
        tiny,
        data=replace(
            tiny.data,
            cache_dir=place,
            tokenizer=f"{place}/{file}.json",
            sources=(f"{place}/{file}.yaml",),
            fingerprint="f",
        ),
        evaluation=replace(tiny.evaluation, sets=(f"{place}/{file}.yaml",)),
    )
    found = config.without_places()
    assert found.name == config.name
    text = json.dumps(found.to_dict())
    assert not any(part in text for part in folder)


@pytest.fixture
def command(capsys):
    def run(*arguments):
        status = report.main(["publish", *arguments])
        shown = capsys.readouterr()
        return status, " ".join((shown.out + shown.err).split())

    return run


def test_transformers_loads_a_run_that_was_published(done, tmp_path, command, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import Aimv2VisionModel, AutoImageProcessor

    run, to = trained(done), tmp_path / "encoder"
    status, shown = command("run", run.name[:10], f"to={to}", f"runs_dir={done}", "license=CC-BY-4.0")
    assert status == 0, shown
    assert "README.md, config.json, model.safetensors, preprocessor_config.json" in shown
    model = Aimv2VisionModel.from_pretrained(to)
    assert model.config.hidden_size == 32
    assert AutoImageProcessor.from_pretrained(to).crop_size["height"] == 32
    text = (to / "README.md").read_text()
    value = run.result()["metrics"]["content_loss"]["value"]
    assert f"| {value:.4g} |" in text
    assert "license: cc-by-4.0" in text
    assert "Font Awesome Free (CC BY 4.0)" in text
    assert "prefix-beats-causal: " in text
    assert "**not testable**" in text
    assert f"code {digest()}" in text
    assert "training FLOPs" in text
    assert "1 attempt, " in text
    assert os.uname().nodename not in text


def test_a_run_of_no_study_has_a_card_without_verdicts(copied, tmp_path, command):
    shutil.rmtree(copied / "studies")
    run = next(path.parent.name for path in copied.glob("*/result.json"))
    status, shown = command("run", run, f"to={tmp_path / 'encoder'}", f"runs_dir={copied}")
    assert status == 0
    assert "no study has this run, so its card has no verdicts" in shown


def test_a_run_of_several_studies_needs_the_name_of_one(copied, tmp_path, command, cache_dir):
    requested(copied, cache_dir, "sweep.suffix=mine")
    name, to = trained(copied).name, f"to={tmp_path / 'encoder'}"
    status, shown = command("run", name, to, f"runs_dir={copied}")
    assert status == 2
    assert "is of several studies; type study= and one of: prefix_ratio, prefix_ratio_mine" in shown
    status, shown = command("run", name, to, f"runs_dir={copied}", "study=other")
    assert "study=other does not have run" in shown
    assert command("run", name, to, f"runs_dir={copied}", "study=prefix_ratio_mine")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "publish what? Type: publish run RUN to=FOLDER"),
        (("prefix_ratio",), "publish what?"),
        (("weights", "x", "to=out"), "publish what?"),
        (("study", "prefix_ratio"), "publish where? Type to="),
        (("study", "prefix_ratio", "to=out", "layout=ml-aim"), "layout"),
        (("study", "prefix_ratio", "to=out"), "to=out must end in .zip"),
        (("study", "prefix_ratio", "to=out", "license=my own"), "license='my own' is not an SPDX identifier"),
        (("study", "prefix_ratio", "to=out", "license=CC-BY"), "license='CC-BY' is not an SPDX identifier"),
        (("study", "other", "to=out.zip"), "sweep 'other' was not launched"),
        (("run", "v9", "to=out"), "v9"),
    ],
)
def test_wrong_arguments_are_one_sentence(done, tmp_path, command, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, shown = command(*arguments, f"runs_dir={done}")
    assert status == 2
    assert message in shown
    assert not list(tmp_path.iterdir())


def test_targets_that_exist_are_refused(done, tmp_path, command):
    (tmp_path / "out.zip").touch()
    assert "out.zip exists; choose another to=" in command(
        "study", "prefix_ratio", f"to={tmp_path / 'out.zip'}", f"runs_dir={done}"
    )[1]  # fmt: skip
    (tmp_path / "file").touch()
    name = trained(done).name
    assert "is not an empty folder" in command("run", name, f"to={tmp_path}", f"runs_dir={done}")[1]


def test_metadata_are_those_that_the_hub_reads(findings):
    data = DatasetCard(_dataset_card(findings, "CC-BY-4.0")).data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["configs"] == [{"config_name": "default", "data_files": f"{findings.request.folder}/records.parquet"}]
    open_choice = DatasetCard(_dataset_card(findings, "")).data.to_dict()
    assert (open_choice["license"], open_choice["license_name"]) == ("other", "not-chosen-yet")


def test_card_has_verdicts_licences_runs_and_cost(findings):
    text = _dataset_card(findings, "")
    assert STUDY.question in text.replace("\\", "")
    for name, verdict in findings.verdicts.items():
        (line,) = (line for line in _verdict_lines(findings) if line.startswith(f"{name}: "))
        assert f" At scale {findings.config.label}: **{verdict.word}**" in line
        assert f"- {line}\n" in text
    for line in findings.evidence.credits["sources"]:
        assert f"- {line}\n" in text
    number = len(findings.evidence.runs)
    assert f"a row for each of {number} runs, {number} of them finished" in text
    assert f"{100 * number:.3g} training FLOPs" in text
    assert "4 runs, seeds 0, 1, 2, 3" in text
