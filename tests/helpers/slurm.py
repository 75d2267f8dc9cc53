"""SLURM's commands as scripts on PATH, which print given answers and record submissions."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

from aimv2.sweeps.executors.slurm import SlurmExecutor

EXECUTOR = SlurmExecutor(minutes=60)
SETTINGS = "printf 'ClusterName = here\\nMaxArraySize = 1001\\n'"


@dataclass(frozen=True)
class Submission:
    """A job or an array that sbatch accepted: the script's lines, and the callables that its elements execute."""

    script: list[str]
    jobs: list

    @property
    def dependency(self):
        return next((line.partition("--dependency=")[2] for line in self.script if "--dependency=" in line), None)

    @property
    def starts(self):
        """The run that each worker begins with, by its place in the launch."""
        return [job.start for job in self.jobs]


class FakeSlurm:
    """A folder of commands. sbatch accepts everything, as jobs 7, 8, ..., unless a test replaces it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = folder / "submitted"
        self.scripts.mkdir(parents=True)
        self.put("srun", "exit 1")
        self.put("scontrol", SETTINGS)
        self.queue()
        self.put(
            "sbatch",
            f"[ $1 = --test-only ] && exit 0; id=$((7 + $(ls {self.scripts} | wc -l)));"
            f' cp $1 {self.scripts}/$id; echo "Submitted batch job $id"',
        )

    def put(self, name: str, script: str) -> None:
        """Install a command."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def queue(self, *lines: str) -> None:
        """Have squeue print these lines."""
        self.put("squeue", f"printf '%s\\n' {' '.join(map(repr, lines))}" if lines else "true")

    def refuse(self, name: str, answer: str) -> None:
        """Have a command fail with this answer."""
        self.put(name, f'printf "{answer}\\n" >&2; exit 1')

    def submissions(self, jobs_dir: Path) -> list[Submission]:
        """Return the accepted submissions, in order.

        Args:
            jobs_dir: folder in which submitit writes its files, or one around it.
        """
        found = []
        for script in sorted(self.scripts.iterdir(), key=lambda path: int(path.name)):
            pickled = [
                *jobs_dir.rglob(f"{script.name}_submitted.pkl"),
                *jobs_dir.rglob(f"{script.name}_*_submitted.pkl"),
            ]
            pickled.sort(key=lambda path: int(path.name.removesuffix("_submitted.pkl").rpartition("_")[2]))
            jobs = [pickle.loads(path.read_bytes()).function for path in pickled]
            found.append(Submission(script.read_text().splitlines(), jobs))
        return found


def on_path(monkeypatch, folder: Path) -> FakeSlurm:
    """Make the commands and put them first on PATH."""
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return FakeSlurm(folder)
