"""What plug-ins import: the functions that add to what exists, and what they take (docs/extend.md).

Each name is imported when it is first read, so that a metric loads no studies, and nothing here loads torch.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimv2.ablations.catalogue import add_study as study
    from aimv2.ablations.design import factorial, ladder, one_factor, setting
    from aimv2.config.prefix import prefix_distribution
    from aimv2.config.program import Program
    from aimv2.definitions.items import Items
    from aimv2.definitions.metrics import Definition, metric
    from aimv2.definitions.objectives import OBJECTIVES
    from aimv2.definitions.objectives import add_objective as objective
    from aimv2.definitions.programs import program

__all__ = [
    "OBJECTIVES",
    "Definition",
    "Items",
    "Program",
    "factorial",
    "ladder",
    "metric",
    "objective",
    "one_factor",
    "prefix_distribution",
    "program",
    "setting",
    "study",
]
_FOUND_IN = {
    "study": "aimv2.ablations.catalogue:add_study",
    **{name: f"aimv2.ablations.design:{name}" for name in ("factorial", "ladder", "one_factor", "setting")},
    "prefix_distribution": "aimv2.config.prefix:prefix_distribution",
    "Items": "aimv2.definitions.items:Items",
    "Program": "aimv2.config.program:Program",
    "Definition": "aimv2.definitions.metrics:Definition",
    "program": "aimv2.definitions.programs:program",
    "OBJECTIVES": "aimv2.definitions.objectives:OBJECTIVES",
    "objective": "aimv2.definitions.objectives:add_objective",
    "metric": "aimv2.definitions.metrics:metric",
}


def __getattr__(name: str) -> Any:
    if name not in _FOUND_IN:
        raise AttributeError(f"{__name__} has no {name!r}; it has {', '.join(sorted(_FOUND_IN))}")
    return resolve_name(_FOUND_IN[name])
