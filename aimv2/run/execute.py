"""One run from start to finish: prepare, train, evaluate, record."""

import contextlib
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import write_json, write_text
from aimv2.base.interrupt import Interrupts
from aimv2.config.data_config import DataConfig
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import Data, prepare
from aimv2.definitions.metrics import Metric
from aimv2.definitions.objectives import objective
from aimv2.definitions.programs import check_plugins
from aimv2.evaluation import parts
from aimv2.evaluation.evaluate import evaluate, examples, held_out_curve
from aimv2.evaluation.parts import MeasureParts, beside
from aimv2.memory.machine import keep_freed_memory, missing_for_compile, ranks_here
from aimv2.memory.setup import check_evaluation, loading_of, resolved, setup_of
from aimv2.model.network import Network
from aimv2.objectives.build import build, start_network
from aimv2.request.resolve import data_fingerprint
from aimv2.run.manifest import manifest, rests_on
from aimv2.run.reuse import WEIGHTS, check_training, origin_of_training
from aimv2.runs.attempt import Attempt, Unrecorded, attempted
from aimv2.runs.failure import Failure
from aimv2.runs.provenance import keep_changes
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import read_rows
from aimv2.runs.tensor_file import read_tensors, write_tensors
from aimv2.training import checkpoint
from aimv2.training.checkpoint import Saver, SaveTimer
from aimv2.training.device import compiles, hold_half_, set_float32_products
from aimv2.training.distributed import Call, calls, joined, leading, place
from aimv2.training.local_ranks import local_ranks
from aimv2.training.loop import Row, train
from aimv2.training.world import World

# Values of a result that are those of its training.
RECORDED = ("train_flops", "read_retries", "mixture", "train_seconds", "train_cpu_seconds")

Evaluate = Callable[..., dict[str, Metric]]


class TrainedNetwork(NamedTuple):
    """A trained network, and what the result records of its training."""

    network: Network
    record: dict[str, Any]  # values by their names in RECORDED
    attempts: Sequence[dict[str, Any]] = ()  # those of other runs that it rests on, each with the name of its ``run``


def execute(
    attempt: Attempt,
    config: RunConfig,
    on_rows: Callable[[list[Row]], None] = lambda rows: None,
    interrupts: Interrupts | None = None,
    evaluate: Evaluate = evaluate,
    trained: Path | None = None,
    gpus: Sequence[int] = (),
) -> Failure | None:
    """Train, evaluate and publish the attempt's run, or record why it failed.

    Training resumes from the newest checkpoint of the run's earlier attempts. With several ranks this is rank 0. It
    starts the others, unless a launcher has started them; those call ``follow``.

    ``trained`` is the folder of a finished run whose weights are measured, without training (``aimv2.run.reuse``).
    """

    def work() -> None:
        with local_ranks(config, partial(follow, config, evaluate=evaluate), gpus):
            _train_and_evaluate(attempt, config, on_rows, interrupts or Interrupts(), evaluate, trained)

    return attempted(attempt, work)


def follow(config: RunConfig, interrupts: Interrupts | None = None, evaluate: Evaluate = evaluate) -> None:
    """Train and evaluate beside rank 0 in every run that it executes, until it dismisses the other ranks or ends.

    Only rank 0 records. An error here ends the process, and rank 0 records it.
    """
    rank, interrupts = place(config), interrupts or Interrupts()
    for call in calls():
        _prepare_process(call.config)
        # A run that fails does so on all ranks, and rank 0 records it.
        with (
            contextlib.suppress(RunFailedError),
            interrupts.deferred(),
            joined(call.number, call.config, rank, work=call.work) as world,
        ):
            if call.work == "train":
                _train_beside(call, interrupts, world)
            else:
                with interrupts.at_once():
                    data, model = _prepared_beside(call.config), build(call.config)
                    _evaluate_on_all(evaluate, model.to(call.config.device), data, call.config, beside(world), world)


def _train_beside(call: Call, interrupts: Interrupts, world: World) -> None:
    config, attempt = call.config, call.attempt
    data = _prepared_beside(config)
    with Saver(partial(checkpoint.save_share, Path(attempt), world) if attempt else None, world=world) as saver:
        train(
            config,
            objective(config.objective.name),
            build(config).to(config.device),
            TrainBatches(config, data.train, data.tokenizer, world.rank),
            attempt=Unrecorded(),
            start=None if call.start is None else checkpoint.read(Path(call.start)),
            interrupts=interrupts,
            world=world,
            saver=saver,
        )


def _prepared_beside(config: RunConfig) -> Data:
    """Return the data of a run, which must be that of rank 0: it might have been indexed again in between."""
    data = prepared(config.data, config.model.vocab_size)
    _check_content(config)
    return data


def _check_content(config: RunConfig) -> None:
    """Raise a RunFailedError if data or labelled sets were indexed again since the plan, and are others now."""
    if config.data.fingerprint and data_fingerprint(config) != config.data.fingerprint:
        raise RunFailedError(
            "data", "the data is not that of this run, because it was indexed again; restore it, or launch again"
        )


def _evaluate_on_all(
    evaluate: Evaluate, model: Network, data: Data, config: RunConfig, part: MeasureParts, world: World
) -> dict[str, Metric]:
    """Evaluate rank 0's weights with all ranks. The network cannot be used afterwards (``hold_half_``)."""
    world.equalise(model)
    hold_half_(model, config)
    metrics = evaluate(model, objective(config.objective.name), data, config, part, world)
    _check_content(config)  # labelled sets are read after the training
    return metrics


def _prepare_process(config: RunConfig) -> None:
    check_plugins(config, config.name)
    torch.set_num_threads(config.threads)
    set_float32_products(config)
    if config.device == "cpu":
        keep_freed_memory()


prepared_pairs = lru_cache(maxsize=4)(prepare)


def prepared(config: DataConfig, vocab_size: int) -> Data:
    """Return the data of a run, those of an earlier run of this process if it reads the same pairs, as ``prepare``."""
    return prepared_pairs(config.as_evaluated(), vocab_size)


def _train_and_evaluate(
    attempt: Attempt,
    config: RunConfig,
    on_rows: Callable[[list[Row]], None],
    interrupts: Interrupts,
    evaluate: Evaluate,
    trained: Path | None,
) -> None:
    _prepare_process(config)
    if config.ranks > 1:
        rank = place(config)
        assert rank == 0, "the other ranks call follow"
    config = _set_up(config)
    goal = objective(config.objective.name)
    data = prepared(config.data, config.model.vocab_size)
    if config.data.kind == "files" or config.evaluation.sets:
        from aimv2.datasets.open import record_content

        record_content(attempt.folder, attempt.earlier(), config, data_fingerprint(config))
    if trained is None:
        training = _train(attempt, config, data, on_rows, interrupts)
    else:
        training = _reuse(attempt, config, data, RunFolder(trained.parent, trained.name))
    weights = {name: value.cpu() for name, value in training.network.state_dict().items()}
    shown = data.held_out.subset(config.evaluation.num_examples)
    written = examples(training.network, shown, data.tokenizer, config) if "captions" in goal.reports else []
    # A signal does not interrupt the end of the collectives, but what is between them.
    with interrupts.deferred(), leading(config, work="evaluate") as world, interrupts.at_once():
        part = parts.Parts(attempt, weights, interrupts, world)
        metrics = _evaluate_on_all(evaluate, training.network, data, config, part, world)
    write_json(attempt.folder / "examples.json", written)
    write_text(attempt.folder / "tokenizer.json", data.tokenizer.to_json())
    write_tensors(weights, attempt.folder / WEIGHTS)
    attempt.sync_rows()
    attempt.publish(
        metrics,
        **training.record,
        attempts=[*training.attempts, *rests_on(attempt.folder, part.measured_by)],
    )
    attempt.remove_unfinished()


def _train(
    attempt: Attempt,
    config: RunConfig,
    data: Data,
    on_rows: Callable[[list[Row]], None],
    interrupts: Interrupts,
) -> TrainedNetwork:
    """Train as rank 0, from the newest checkpoint if there is one, and save checkpoints."""
    goal = objective(config.objective.name)
    model = start_network(build(config), config, data.tokenizer).to(config.device)
    start = checkpoint.resume(attempt)
    attempt.write_manifest(manifest(config, data, start) | {"changes": keep_changes(attempt.run.parent)})
    started, own = None if start is None else str(start.path.absolute()), str(attempt.folder.absolute())
    timer = SaveTimer(config.checkpoint.every_seconds)
    with (
        interrupts.deferred(),
        ExitStack() as at_end,
        leading(config, started, own) as world,
        Saver(partial(checkpoint.save_attempt, attempt, world), timer, world) as saver,
    ):
        at_end.callback(saver.wait)  # after an error of one rank the others end first, and with them what they write
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
            saver=saver,
        )
    record = {
        "train_flops": trained.flops,
        "read_retries": trained.shown.num_retries,
        "mixture": trained.shown.by_source({name: len(part) for name, part in data.train.parts.items()}),
        "train_seconds": attempt.seconds,
        "train_cpu_seconds": _train_cpu_seconds(attempt.folder, config),
    }
    return TrainedNetwork(trained.network, record)


def _reuse(attempt: Attempt, config: RunConfig, data: Data, run: RunFolder) -> TrainedNetwork:
    """Return the training of a finished run that differs in evaluation only; copy its rows and times."""
    check_training(config, run)
    result, folder = run.result(), run.file("")
    attempt.write_manifest(
        manifest(config, data, None, origin_of_training(run)) | {"changes": keep_changes(attempt.run.parent)}
    )
    record = {name: result[name] for name in RECORDED if name in result}
    cpu_seconds = record["train_cpu_seconds"] or 0.0
    attempt.resume_from(read_rows(folder), seconds=record["train_seconds"], cpu_seconds=cpu_seconds)
    own = result.get("attempts") or rests_on(folder, ())  # older results do not list them
    attempts = [one for one in own if "run" in one] or [{"run": run.name} | one for one in own]
    return TrainedNetwork(_trained_network(config, run), record, attempts)


def _trained_network(config: RunConfig, run: RunFolder) -> Network:
    """Return the network of a finished run, on the device of the config."""
    network = build(config)
    network.load_state_dict(read_tensors(run.file(WEIGHTS)))
    return network.to(config.device)


def _set_up(config: RunConfig) -> RunConfig:
    """Return the run with its setup in the place of ``auto``, so that all ranks have rank 0's."""
    per_node = min(config.ranks_per_node, ranks_here(config))
    config = replace(config, compile=compiles(config), ranks_per_node=per_node)
    if config.compile and (missing := missing_for_compile(config.device)):
        raise RunFailedError("node", f"compile=true needs {missing}, which {platform.node()} lacks")
    try:
        setup = setup_of(config)
        loading_of(config, setup)
        check_evaluation(config)
        return resolved(config, setup)
    except UsageError as error:
        raise RunFailedError("out of memory", str(error)) from error


def _train_cpu_seconds(folder: Path, config: RunConfig) -> float | None:
    """Return the CPU seconds of all training steps, over all attempts and without loader processes; None if a device or
    other ranks did part of the work."""
    if config.device != "cpu" or config.ranks > 1:
        return None
    return float(sum(row.get("step_cpu_seconds", 0.0) for row in read_rows(folder)))
