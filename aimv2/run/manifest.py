"""The manifest of an attempt: its versions, hardware, code and data; and the attempts that a result rests on."""

import contextlib
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.data_config import source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.prepare import Data
from aimv2.data.provenance import version
from aimv2.memory.evaluation import predict_evaluation
from aimv2.memory.machine import hardware
from aimv2.memory.setup import loading_of, setup_of
from aimv2.memory.training import predict
from aimv2.objectives.build import content_of_start, parameters_by_part
from aimv2.runs.lease import attempt_folder
from aimv2.runs.provenance import JOINT, code_of_result, digest, git_commit
from aimv2.training.checkpoint import Checkpoint

VERSIONED = ("torch", "numpy", "tokenizers", "scikit-learn", "fvcore")


def manifest(
    config: RunConfig, data: Data, start: Checkpoint | None, trained: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return versions, hardware, commit, data and day of the attempt, its setup with the bytes of memory that each rank
    is predicted to take, and the checkpoint that it resumed from.
    """
    setup = setup_of(config)
    return {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in VERSIONED},
        "began": datetime.now(UTC).date().isoformat(),
        "code": digest() if trained is None else code_of_result(trained["code"]),
        "commit": git_commit(),
        "command": sys.argv,
        "host": platform.node(),
        "hardware": hardware(config.device),
        "threads": torch.get_num_threads(),
        "data": {source_name(source): version(source) for source in config.data.sources},
        "train_pairs": len(data.train),
        "held_out_pairs": len(data.held_out),
        "tokenizer": data.tokenizer.fingerprint,
        "parameters": parameters_by_part(config),
        "start": content_of_start(config),
        "plugins": dict(config.plugins),
        "setup": {
            **asdict(setup),
            "num_workers": loading_of(config, setup).num_workers,
            "compile": config.compile,
            "predicted_bytes": asdict(predict(config, setup)),
            "predicted_evaluation_bytes": asdict(predict_evaluation(config)),
        },
        "resumed": None if start is None else {"attempt": start.attempt, "step": start.progress.step},
        "trained": trained,
    }


def rests_on(folder: Path, measured_by: Iterable[int]) -> list[dict[str, Any]]:
    """Return the attempts that the result of an attempt rests on, oldest first: the attempt, the one from whose
    checkpoint it resumed and so on, and those that measured parts of the evaluation."""

    def manifest_of(number: int) -> dict[str, Any]:
        with contextlib.suppress(UsageError):
            return dict(read_json(attempt_folder(folder.parents[1], number) / "manifest.json"))
        return {}

    manifests = {number: manifest_of(number) for number in measured_by}
    number = int(folder.name)
    while number:
        manifests[number] = manifest_of(number)
        resumed = manifests[number].get("resumed") or {"attempt": 0}
        number = min(resumed["attempt"], number - 1)  # an earlier attempt, or 0
    attempts = []
    for number, recorded in sorted(manifests.items()):
        began = recorded.get("resumed") or recorded.get("trained") or {"step": 0}
        attempt = {"attempt": number, "from_step": int(began["step"]) if recorded else None}
        attempt |= {name: recorded.get(name) for name in ("host", "hardware", "threads")}
        code = recorded.get("code")
        attempts.append(attempt | {"code": code.rpartition(JOINT)[2] if code else None})  # of this attempt alone
    return attempts
