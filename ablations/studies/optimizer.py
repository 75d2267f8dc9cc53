"""The learning rate of a recipe.

The arms are points between the bounds. To tune a recipe, search between them instead:

    python sweeps/launch.py sweep=optimizer search=optuna

and with ``objective.name=clip`` for a rival of ``sweep=objective``.
"""

from aimv2.ablations.design import Arm, latin_hypercube
from aimv2.ablations.expectations import CONTENT
from aimv2.ablations.study import Study

STUDY = Study(
    slug="optimizer",
    question="Which learning rate suits the recipe at this scale?",
    source="AIMv2 Table A1: peak rates of 4e-4 to 1e-3 by size; never ablated",
    design=latin_hypercube(
        {"recipe": Arm(label="as in the recipe")}, linear={}, log={"optimizer.peak_lr": (3e-4, 2e-2)}, num_points=6
    ),
    baseline="recipe",
    primary_metric=CONTENT,
)
