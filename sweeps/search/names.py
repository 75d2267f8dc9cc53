"""Names in the files of a search."""

from pathlib import Path

from analysis.evidence.searches import FOLDER

# Attributes of a study and of its trials in Optuna's storage.
DEFINITION, WINNERS = "definition", "winners"  # the latter are the runs that confirm the winner
RUN, AFTER, SEED, SPENT, NOTE = "run", "after", "run_seed", "spent", "note"
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "running"}


def journal_path(runs_dir: Path, name: str) -> Path:
    """Return the path of a search's journal."""
    return runs_dir / FOLDER / f"{name}.journal"
