import json
from dataclasses import replace

import pytest

from ablations.catalogue import STUDIES
from ablations.expand import expand
from ablations.overrides import study_overrides
from ablations.request import Request, read_request, requested_names, write_request
from aimv2.errors import UsageError


def test_request_is_read_back(study, tiny, tmp_path):
    overrides = replace(
        study_overrides(study), seeds=(0, 1), equal="flops", controls=("null_control",), equivalence_margin=0.5
    )
    study = overrides.apply(study)
    request = Request(
        study=study,
        cells=expand(study, tiny, seeds=overrides.seeds),
        arguments=("sweep=prefix_ratio", "sweep.seeds=2"),
    )
    write_request(tmp_path, request)
    (tmp_path / "studies/prefix_ratio_equal_flops_test.looks.json").write_text("[]")  # no request
    assert requested_names(tmp_path) == ["prefix_ratio_equal_flops_test"]
    assert read_request(tmp_path, "prefix_ratio_equal_flops_test", STUDIES) == request


def test_request_that_was_never_made_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"'prefix_ratio' was not launched into .* launched there: none"):
        read_request(tmp_path, "prefix_ratio", STUDIES)


@pytest.fixture
def recorded(study, tiny, tmp_path):
    """A request and the file that records it."""
    request = Request(study=study, cells=expand(study, tiny), arguments=())
    write_request(tmp_path, request)
    (path,) = tmp_path.rglob("prefix_ratio_test.json")
    return request, path


@pytest.mark.parametrize("baseline", ["uniform", "causal"])
def test_record_of_an_older_version_is_read(study, tiny, tmp_path, baseline):
    study = replace(study_overrides(study), baseline=baseline, equivalence_margin=0.5).apply(study)
    request = Request(study=study, cells=expand(study, tiny), arguments=())
    write_request(tmp_path, request)
    (path,) = tmp_path.rglob("prefix_ratio_test.json")
    record = json.loads(path.read_text())
    for key in ("question", "source", "expected", "claims"):
        del record["sweep"][key]
    del record["adapted"]
    record["sweep"] |= {"pairing": "seed", "smallest_difference": record["sweep"].pop("equivalence_margin")}
    path.write_text(json.dumps(record))
    assert read_request(tmp_path, path.stem, STUDIES) == request


@pytest.mark.parametrize("broken", ["[]", '{"cells": []}', "{"])
def test_broken_record_is_named(recorded, tmp_path, broken):
    _, path = recorded
    path.write_text(broken)
    with pytest.raises(UsageError, match=r"prefix_ratio_test\.json (is not the record of a launch|cannot be read)"):
        read_request(tmp_path, path.stem, STUDIES)


def test_record_of_an_unknown_study_is_refused(recorded, tmp_path):
    _, path = recorded
    with pytest.raises(UsageError, match="is not the record of a launch"):
        read_request(tmp_path, path.stem, {})
