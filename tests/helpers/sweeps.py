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


def small_sweep(cache_dir, *more, sweep="prefix_ratio"):
    """Return the arguments of a small sweep, of which ``more`` may replace some."""
    replaced = {argument.partition("=")[0] for argument in more}
    small = [argument for argument in SMALL if argument.partition("=")[0] not in replaced]
    return [f"sweep={sweep}", f"data.cache_dir={cache_dir}", *small, *more]
