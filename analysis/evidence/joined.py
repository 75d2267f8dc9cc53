"""Records of two launches of a study, with other seeds, as those of one."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from aimv2.ablations.request import union
from aimv2.analysis.evidence.load import Evidence
from aimv2.analysis.evidence.records import CELL, TABLES, Records
from aimv2.analysis.inference.items import ItemMoments, Run
from aimv2.analysis.inference.looks import Look


def joined(earlier: Records, later: Records) -> Records:
    """Return the records of two launches as one, with the study and the arguments of the later.

    Runs count as in ``ablations.request.union``: those with the baseline of the later launch, without arms that were
    defined otherwise, and each once. Runs of different code are one study if each seed has one code, because then every
    difference within a seed is one of arms. Both launches were looks.
    """
    request = union([later.request, earlier.request], later.request.cells)
    own = {cell.name for cell in later.request.cells}
    arm_of = {cell.name: cell.arm for cell in request.cells if cell.name not in own}
    # Untrained encoders can have other names in the earlier launch.
    arms = {(cell.arm, cell.seed): arm_of[cell.name] for cell in earlier.request.cells if cell.name in arm_of}
    evidence = _joined(earlier.evidence, later.evidence, arms)
    if evidence.runs.groupby("seed")["code"].nunique().max() == 1:
        request = replace(request, study=replace(request.study, allow_mixed_code=True))
    seeds = tuple(sorted({seed for _, seed in arms}))
    look = Look(earlier.look.number + later.look.number, (*earlier.look.earlier, seeds, *later.look.earlier))
    return replace(later, request=request, evidence=evidence, look=look)


def _joined(earlier: Evidence, later: Evidence, arms: Mapping[Run, str]) -> Evidence:
    """Return the later evidence and these runs of the earlier, with their arms renamed."""
    tables = {
        name: pd.concat([_of_runs(getattr(earlier, name), arms), getattr(later, name)], ignore_index=True)
        for name in ("runs", "missing", *TABLES)
    }
    return replace(
        later,
        **tables,
        bill=pd.concat([earlier.bill, later.bill], ignore_index=True),
        examples=earlier.examples | later.examples,
        items=ItemMoments.joined(earlier.items.of_runs(arms), later.items),
    )


def _of_runs(table: pd.DataFrame, arms: Mapping[Run, str]) -> pd.DataFrame:
    """Return the rows of these runs, with their arms renamed."""
    runs = list(table[CELL].itertuples(index=False, name=None))
    return table[[run in arms for run in runs]].assign(arm=[arms[run] for run in runs if run in arms])
