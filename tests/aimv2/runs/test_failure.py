import errno
import os

import pytest

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import write_json
from aimv2.memory.machine import oom_kills
from aimv2.runs.failure import Failure, cause_of, read_failure, sentence_of


def test_read_failure_returns_the_record(tmp_path):
    write_json(tmp_path / "failure.json", {"cause": "data", "message": "no pictures", "traceback": "Traceback …"})
    failure = read_failure(tmp_path)
    assert failure == Failure("data", "no pictures")
    assert failure.traceback == "Traceback …"


@pytest.mark.parametrize("broken", [b"{}", b"[]", b"", b"\xff\xfe", b'{"cause": "x", "message": ""}'])
def test_read_failure_reports_a_broken_record(tmp_path, broken):
    (tmp_path / "failure.json").write_bytes(broken)
    failure = read_failure(tmp_path)
    assert failure.cause == "node"
    assert "the file is broken" in failure.message


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RunFailedError("not finite", "text_loss is nan"), "not finite"),
        (KeyboardInterrupt(), "time"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), "out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out of memory"),
        (RuntimeError("DataLoader worker (pid 3) exited unexpectedly"), "node"),
        (OSError(5, "Input/output error"), "node"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "no space"),
        (OSError("x cannot be written: I/O error: No space left on device (os error 28)"), "no space"),  # safetensors
        (RuntimeError("unable to allocate shared memory: No space left on device (28)"), "bug"),
        (FileNotFoundError(2, "No such file", "elsewhere/shard.tar"), "data"),
        (FileNotFoundError(2, "No such file", "run/attempts/0001/metrics.jsonl"), "node"),
        (UsageError("a shard is cut short"), "data"),
        (KeyError("x"), "bug"),
    ],
    ids=str,
)
def test_cause_of_groups_errors(tmp_path, monkeypatch, error, cause):
    monkeypatch.chdir(tmp_path)
    assert cause_of(error, tmp_path / "run") == cause


def test_a_killed_loader_process_was_out_of_memory_only_if_the_kernel_has_killed_one_since():
    error = RuntimeError("DataLoader worker (pid(s) 3) exited unexpectedly")
    error.__cause__ = RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed.")
    assert cause_of(error, oom_kills=oom_kills()) == "node"
    assert cause_of(error, oom_kills=oom_kills() - 1) == "out of memory"
    error.__cause__ = RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error.")
    assert cause_of(error, oom_kills=oom_kills()) == "out of memory"


def test_sentence_of_names_the_type_of_errors_that_are_not_ours():
    assert sentence_of(UsageError("no pictures\nmore")) == "no pictures"
    assert sentence_of(KeyError("x")) == "KeyError: 'x'"
    assert sentence_of(RuntimeError()) == "RuntimeError: "
