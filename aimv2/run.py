"""One run, start to finish: prepare, train, evaluate, record."""

import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from aimv2.config import RunConfig
from aimv2.data import glyphs
from aimv2.data.batches import TrainBatches
from aimv2.data.pairs import Pairs, prepare
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.errors import RunFailedError
from aimv2.evaluation.captions import examples
from aimv2.evaluation.evaluate import evaluate, held_out_curve
from aimv2.lease import LeaseLostError
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.network import Network, build, num_parameters
from aimv2.record import Attempt, Failure, write_json, write_text
from aimv2.training.loop import Row, train

VERSIONED = ("torch", "numpy", "tokenizers", "scikit-learn", "fvcore")


def execute(
    attempt: Attempt, config: RunConfig, on_rows: Callable[[list[Row]], None] = lambda rows: None
) -> Failure | None:
    """Train, evaluate and publish the run that the attempt holds, or record why that failed.

    Returns:
        None when the result is published, else the failure, which is also in the attempt's ``failure.json`` if that
        could be written.
    """
    try:
        with attempt:
            try:
                _train_and_evaluate(attempt, config, on_rows)
            except LeaseLostError:
                raise
            except Exception as error:
                failure = Failure(_cause(error), _sentence(error))
                attempt.fail(failure, traceback.format_exc())
                return failure
    except OSError as error:  # the folder itself: nothing can be recorded there
        return Failure(_cause(error), _sentence(error))
    return None


def _train_and_evaluate(attempt: Attempt, config: RunConfig, on_rows: Callable[[list[Row]], None]) -> None:
    torch.set_num_threads(config.threads)
    train_pairs, held_out, tokenizer = prepare(config.data, config.model)
    model = build(config).to(config.device)
    attempt.write_manifest(manifest(config, tokenizer, train_pairs, held_out))
    flops = train(
        config,
        model,
        TrainBatches(config, train_pairs, tokenizer),
        attempt=attempt,
        held_out=held_out_curve(held_out, tokenizer, config),
        on_rows=on_rows,
    )
    train_seconds = attempt.seconds
    metrics = evaluate(model, train_pairs, held_out, tokenizer, config)
    shown = held_out.subset(config.evaluation.num_examples)
    written = examples(model, shown, tokenizer, config) if isinstance(model, EncoderDecoder) else []
    write_json(attempt.folder / "examples.json", written)
    write_text(attempt.folder / "tokenizer.json", tokenizer.to_json())
    _save_weights(model, attempt.folder / "weights.safetensors")
    attempt.publish(metrics, train_flops=flops, train_seconds=train_seconds)


def _save_weights(model: Network, path: Path) -> None:
    """Write the model's state whole or not at all."""
    partial = path.with_name(f".{path.name}")
    try:
        save_file({name: value.cpu() for name, value in model.state_dict().items()}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def manifest(config: RunConfig, tokenizer: CaptionTokenizer, train_pairs: Pairs, held_out: Pairs) -> dict[str, Any]:
    """Where, with what and on which data the run was done."""
    return {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in VERSIONED},
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
    }


@lru_cache
def git_commit() -> str:
    """The commit that the code is at, with ``+changes`` where the tree differs from it; empty outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()


@lru_cache
def hardware(device: str) -> str:
    """The device's name, as it gives it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = (
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        )
        model = next(names, model)
    return f"{model}, {os.cpu_count()} cores"


def _cause(error: Exception) -> str:
    if isinstance(error, RunFailedError):
        return error.cause
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    if isinstance(error, OSError | SafetensorError):
        return "files"
    return "error"


def _sentence(error: Exception) -> str:
    kind = "" if isinstance(error, ValueError | RunFailedError) else f"{type(error).__name__}: "
    return kind + (str(error).splitlines() or [""])[0]
