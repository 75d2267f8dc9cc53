"""One run from start to finish: prepare, train, evaluate, record."""

import contextlib
import platform
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from aimv2.config.data_config import source_name
from aimv2.config.resolve import data_fingerprint
from aimv2.config.run_config import RunConfig
from aimv2.data.batches import TrainBatches
from aimv2.data.files.recorded import record_content
from aimv2.data.prepare import Data, prepare
from aimv2.data.sources.version import version
from aimv2.errors import RunFailedError
from aimv2.evaluation.captions import examples
from aimv2.evaluation.evaluate import evaluate, held_out_curve
from aimv2.evaluation.metrics import Metric
from aimv2.hardware import hardware
from aimv2.model.network import build, parameters_by_part
from aimv2.objectives import objective
from aimv2.runs.failure import Failure, cause_of, sentence_of
from aimv2.runs.files import write_json, write_text
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.lease import LeaseLostError
from aimv2.runs.provenance import compare_with_lock, digest, git_commit, keep_changes
from aimv2.runs.record import Attempt, Unrecorded
from aimv2.runs.rows import read_rows
from aimv2.training import checkpoint
from aimv2.training.checkpoint import Checkpoint
from aimv2.training.distributed import World, calls, joined, leading, place
from aimv2.training.loop import Row, train

VERSIONED = ("torch", "numpy", "tokenizers", "scikit-learn", "fvcore")


def execute(
    attempt: Attempt,
    config: RunConfig,
    on_rows: Callable[[list[Row]], None] = lambda rows: None,
    interrupts: Interrupts | None = None,
    evaluate: Callable[..., dict[str, Metric]] = evaluate,
    lead: Callable[[RunConfig, str | None], AbstractContextManager[World]] = leading,
) -> Failure | None:
    """Train, evaluate and publish the attempt's run, or record why it failed.

    Training resumes from the newest checkpoint of the run's earlier attempts. With several ranks this is rank 0, and
    the others call ``follow``.

    Args:
        evaluate: measures the final metrics (``aimv2.evaluation.evaluate.evaluate``).
        lead: calls the other ranks (``aimv2.training.distributed.leading``).

    Returns:
        None if the result is published, else the failure. It is also in the attempt's ``failure.json`` if the folder is
        writable.

    Raises:
        KeyboardInterrupt: the run was interrupted and released.
        LeaseLostError: another process has taken over the run.
    """
    try:
        with attempt:
            try:
                _train_and_evaluate(attempt, config, on_rows, interrupts or Interrupts(), evaluate, lead)
            except LeaseLostError:
                raise
            except Exception as error:
                failure = Failure(cause_of(error, attempt.run.path), sentence_of(error))
                attempt.fail(failure, traceback.format_exc())
                return failure
    except OSError as error:  # from the attempt's folder: nothing can be recorded there
        return Failure(cause_of(error, attempt.run.path), sentence_of(error))
    return None


def follow(config: RunConfig, interrupts: Interrupts | None = None) -> None:
    """Train beside rank 0 in every run that it executes, until it dismisses the other ranks or ends.

    Only rank 0 records and evaluates. An error here ends the process, and rank 0 records it.

    Args:
        config: any run with this number of ranks.

    Raises:
        UsageError: the launcher started another number of processes.
        KeyboardInterrupt: the process was interrupted between two runs.
    """
    rank, interrupts = place(config), interrupts or Interrupts()
    for number, config, start in calls():
        torch.set_num_threads(config.threads)
        # A run that fails does so on all ranks, and rank 0 records it.
        with contextlib.suppress(RunFailedError), interrupts.deferred(), joined(number, config, rank) as world:
            data = _prepared(config.data, config.model)
            train(
                config,
                objective(config.objective.name),
                build(config).to(config.device),
                TrainBatches(config, data.train, data.tokenizer, rank),
                attempt=Unrecorded(),
                start=None if start is None else checkpoint.read(Path(start)),
                interrupts=interrupts,
                world=world,
            )


_prepared = lru_cache(maxsize=16)(prepare)  # a worker's runs cycle through a few arms, which read the same pairs


def _train_and_evaluate(
    attempt: Attempt,
    config: RunConfig,
    on_rows: Callable[[list[Row]], None],
    interrupts: Interrupts,
    evaluate: Callable[..., dict[str, Metric]],
    lead: Callable[[RunConfig, str | None], AbstractContextManager[World]],
) -> None:
    torch.set_num_threads(config.threads)
    if config.ranks > 1:
        rank = place(config)
        assert rank == 0, "the other ranks call follow"
    goal = objective(config.objective.name)
    data = _prepared(config.data, config.model)
    if config.data.kind == "files" or config.evaluation.sets:
        record_content(attempt.folder, attempt.earlier(), config, data_fingerprint(config))
    model = build(config).to(config.device)
    start = checkpoint.resume(attempt)
    attempt.write_manifest(manifest(config, data, start))
    keep_changes(attempt.run.path.parent)
    started = None if start is None else str((attempt.folder.parent / f"{start.attempt:04d}").absolute())
    with attempt.working(), interrupts.deferred(), lead(config, started) as world:
        trained = train(
            config,
            goal,
            model,
            TrainBatches(config, data.train, data.tokenizer, rank=0 if config.ranks > 1 else None),
            attempt=attempt,
            held_out=held_out_curve(goal, data, config),
            on_rows=on_rows,
            start=start,
            interrupts=interrupts,
            world=world,
            save=partial(checkpoint.save_attempt, attempt),
        )
    train_seconds = attempt.seconds
    with attempt.working():
        metrics = evaluate(model, goal, data, config)
        shown = data.held_out.subset(config.evaluation.num_examples)
        written = examples(model, shown, data.tokenizer, config) if "captions" in goal.reports else []
    write_json(attempt.folder / "examples.json", written)
    write_text(attempt.folder / "tokenizer.json", data.tokenizer.to_json())
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    checkpoint.write_tensors(weights, attempt.folder / "weights.safetensors")
    attempt.publish(
        metrics,
        train_flops=trained.flops,
        read_retries=trained.shown.num_retries,
        mixture=trained.shown.by_source({name: len(part) for name, part in data.train.parts.items()}),
        train_seconds=train_seconds,
        train_cpu_seconds=_train_cpu_seconds(attempt.folder, config),
    )
    with contextlib.suppress(OSError):  # the run is done even if a checkpoint cannot be deleted
        for folder in (attempt.folder, *attempt.earlier()):
            checkpoint.remove(folder)


def _train_cpu_seconds(folder: Path, config: RunConfig) -> float | None:
    """Return the CPU seconds of all training steps, over all attempts and without loader processes.

    Returns:
        None if they are not the cost of training: a device or other ranks did part of the work.
    """
    if config.device != "cpu" or config.ranks > 1:
        return None
    return float(sum(row.get("step_cpu_seconds", 0.0) for row in read_rows(folder)))


def manifest(config: RunConfig, data: Data, start: Checkpoint | None) -> dict[str, Any]:
    """Return versions, hardware, commit and data of the attempt, and the checkpoint that it resumed from."""
    return {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in VERSIONED},
        "lock": compare_with_lock(),
        "code": digest(),
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
        "resumed": None if start is None else {"attempt": start.attempt, "step": start.progress.step},
    }
