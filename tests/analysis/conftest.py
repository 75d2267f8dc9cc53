"""One set of finished runs for all tests of the analysis."""

import numpy as np
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.request import Request, write_request
from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from tests.helpers.evidence import sensitive, write_run
from tests.helpers.specimen import STUDY

EFFECT = {"fixed_75": 0.5, "causal": -0.4, "positive_control": 1.0, UNTRAINED: 4.0}
SHARED = (-1.5, -0.5, 0.5, 1.5)  # added to all arms by seed; pairing removes it
MARKUP = "<img src=x onerror=alert(1)> | [a](b)"  # a caption that must not become markup


@pytest.fixture(scope="session")
def cells(tiny):
    return expand(STUDY, tiny, seeds=range(4))


@pytest.fixture(scope="session")
def request_of(cells):
    """The request whose report is built."""
    return Request(study=STUDY, cells=cells, arguments=("sweep=prefix_ratio", "sweep.arms=[uniform,causal]"))


@pytest.fixture(scope="session")
def runs_dir(cells, tiny, tmp_path_factory):
    """Finished runs with known losses, and the record of a launch of the study in the catalogue; read only."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    for cell in cells:
        value = 3 + SHARED[cell.seed] + EFFECT.get(cell.arm, 0) + rng.normal(0, 0.01)
        write_run(cell, folder, value, caption=MARKUP if cell.arm == "uniform" else "red apple", code="c" * 12)
    recorded = STUDIES[STUDY.slug]
    arguments = (f"sweep={STUDY.slug}",)
    write_request(folder, Request(study=recorded, cells=expand(recorded, tiny, seeds=range(4)), arguments=arguments))
    return folder


@pytest.fixture(scope="session")
def evidence(cells, runs_dir):
    return load(cells, runs_dir)


@pytest.fixture(scope="session")
def findings(request_of, evidence):
    """What the runs show, by metrics that are sensitive."""
    return judge(request_of, evidence, Look(1, 16), sensitive(*STUDY.deciding_metrics))
