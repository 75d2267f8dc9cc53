"""Arguments that make a sweep small enough to run in a test."""

SMALL = (
    "budget.samples=128",
    "data.sources=[fontawesome,openmoji]",
    "evaluation.num_pairs=32",
    "evaluation.curve_pairs=16",
    "evaluation.curve_points=2",
    "evaluation.probe.epochs=1",
    "evaluation.num_examples=2",
    "sweep.controls=[]",
)
