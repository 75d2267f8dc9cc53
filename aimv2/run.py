"""One run, start to finish: prepare, train, evaluate, record."""

import contextlib
import platform
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from aimv2.code import digest, git_commit
from aimv2.config import RunConfig
from aimv2.data import glyphs
from aimv2.data.batches import TrainBatches
from aimv2.data.pairs import Pairs, prepare
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.errors import Cause, RunFailedError, UsageError
from aimv2.evaluation.captions import examples
from aimv2.evaluation.evaluate import evaluate, held_out_curve
from aimv2.hardware import hardware
from aimv2.interrupt import Interrupts
from aimv2.lease import LeaseLostError
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.network import Network, build, num_parameters
from aimv2.record import Attempt, Failure, write_json, write_text
from aimv2.tensor_file import save_tensors
from aimv2.training import checkpoint
from aimv2.training.checkpoint import Checkpoint
from aimv2.training.loop import Row, train

# What torch's and the system's messages say: of memory (a loader process is killed by the system when there is none
# left, and gets a bus error when it is shared memory that is missing), and of a loader process that ended otherwise.
NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "Cannot allocate memory",
    "is killed by signal: Killed",
    "is killed by signal: Bus error",
)
NO_LOADER = ("DataLoader worker (pid",)

VERSIONED = ("torch", "numpy", "tokenizers", "scikit-learn", "fvcore")


def execute(
    attempt: Attempt,
    config: RunConfig,
    on_rows: Callable[[list[Row]], None] = lambda rows: None,
    interrupts: Interrupts | None = None,
) -> Failure | None:
    """Train, evaluate and publish the run that the attempt holds, or record why that failed.

    It goes on from the newest checkpoint of the run's earlier attempts.

    Returns:
        None when the result is published, else the failure, which is also in the attempt's ``failure.json`` if that
        could be written.

    Raises:
        KeyboardInterrupt: it was asked to stop, and handed the run back.
        LeaseLostError: another process took the run over.
    """
    try:
        with attempt:
            try:
                _train_and_evaluate(attempt, config, on_rows, interrupts or Interrupts())
            except LeaseLostError:
                raise
            except Exception as error:
                failure = Failure(cause_of(error, attempt.run.path), _sentence(error))
                attempt.fail(failure, traceback.format_exc())
                return failure
    except OSError as error:  # the folder itself: nothing can be recorded there
        return Failure(cause_of(error, attempt.run.path), _sentence(error))
    return None


_prepared = lru_cache(maxsize=16)(prepare)  # a worker's runs go round a few arms, and read the same pairs


def _train_and_evaluate(
    attempt: Attempt, config: RunConfig, on_rows: Callable[[list[Row]], None], interrupts: Interrupts
) -> None:
    torch.set_num_threads(config.threads)
    train_pairs, held_out, tokenizer = _prepared(config.data, config.model)
    model = build(config).to(config.device)
    start = _earlier_progress(attempt)
    attempt.write_manifest(manifest(config, tokenizer, train_pairs, held_out, start))
    with attempt.working(), interrupts.deferred():
        flops = train(
            config,
            model,
            TrainBatches(config, train_pairs, tokenizer),
            attempt=attempt,
            held_out=held_out_curve(held_out, tokenizer, config),
            on_rows=on_rows,
            start=start,
            interrupts=interrupts,
        )
    train_seconds = attempt.seconds
    with attempt.working():
        metrics = evaluate(model, train_pairs, held_out, tokenizer, config)
        shown = held_out.subset(config.evaluation.num_examples)
        written = examples(model, shown, tokenizer, config) if isinstance(model, EncoderDecoder) else []
    write_json(attempt.folder / "examples.json", written)
    write_text(attempt.folder / "tokenizer.json", tokenizer.to_json())
    _save_weights(model, attempt.folder / "weights.safetensors")
    attempt.publish(metrics, train_flops=flops, train_seconds=train_seconds)
    with contextlib.suppress(OSError):  # the run is done, whatever lies about
        for folder in (attempt.folder, *attempt.earlier()):
            checkpoint.remove(folder)


def _earlier_progress(attempt: Attempt) -> Checkpoint | None:
    """What the run's earlier attempts leave to go on from; its rows are then this attempt's too."""
    start = checkpoint.find(attempt.earlier())
    if start is not None:
        attempt.go_on(start.rows, seconds=start.progress.seconds, cpu_seconds=start.progress.cpu_seconds)
    return start


def _save_weights(model: Network, path: Path) -> None:
    """Write the model's state whole or not at all."""
    partial = path.with_name(f".{path.name}")
    try:
        save_tensors({name: value.cpu() for name, value in model.state_dict().items()}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def manifest(
    config: RunConfig, tokenizer: CaptionTokenizer, train_pairs: Pairs, held_out: Pairs, start: Checkpoint | None
) -> dict[str, Any]:
    """Where, with what and on which data the run was done, and which attempt's checkpoint it went on from."""
    return {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in VERSIONED},
        "code": digest(),
        "commit": git_commit(),
        "command": sys.argv,
        "host": platform.node(),
        "hardware": hardware(config.device),
        "threads": torch.get_num_threads(),
        "data": {source: glyphs.version(source) for source in config.data.sources},
        "train_pairs": len(train_pairs),
        "held_out_pairs": len(held_out),
        "tokenizer": tokenizer.fingerprint,
        "parameters": num_parameters(config),
        "resumed": None if start is None else {"attempt": start.attempt, "step": start.progress.step},
    }


def cause_of(error: Exception, run: Path) -> Cause:
    """What to group a failure under (``aimv2.record.Failure``).

    Args:
        run: the run's folder: a file that is missing there is the disk's doing, another one is data.
    """
    if isinstance(error, RunFailedError):
        return error.cause
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _says(error, NO_MEMORY):
        return "out of memory"
    if isinstance(error, FileNotFoundError) and not _lies_in(error.filename, run):
        return "data"
    if isinstance(error, OSError | SafetensorError) or _says(error, NO_LOADER):
        return "node"
    return "data" if isinstance(error, UsageError) else "bug"


def _says(error: Exception, what: tuple[str, ...]) -> bool:
    """Whether a RuntimeError, which torch raises for nearly everything, or the system's own error is one of these.

    Of a loader process that was killed torch says by what in the error's cause.
    """
    said = f"{error} {error.__cause__}"
    return isinstance(error, RuntimeError | OSError) and any(part in said for part in what)


def _lies_in(filename: object, folder: Path) -> bool:
    """An error that comes from a loader process has lost the name of its file; loaders read nothing but data."""
    return isinstance(filename, str | Path) and Path(filename).absolute().is_relative_to(folder.absolute())


def _sentence(error: Exception) -> str:
    kind = "" if isinstance(error, ValueError | RunFailedError) else f"{type(error).__name__}: "
    return kind + (str(error).splitlines() or [""])[0]
