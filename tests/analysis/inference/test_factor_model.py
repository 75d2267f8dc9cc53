import itertools

import pandas as pd

from aimv2.analysis.inference.factor_model import identified


def test_half_fraction_identifies_main_effects_only():
    """Two of four interactions could be fitted, but which of two aliased ones is there is unknown."""
    rows = [
        (seed, *levels, 1.0 * seed)
        for seed in range(3)
        for levels in itertools.product("01", repeat=4)
        if sum(map(int, levels)) % 2 == 0
    ]
    data = pd.DataFrame(rows, columns=["seed", *"ABCD", "value"])
    terms, why = identified(data, {name: ["0", "1"] for name in "ABCD"})
    assert terms == [("A",), ("B",), ("C",), ("D",)]
    assert why[0].startswith("Interactions are not identified (no run of 0, 0, 0, 1; ")
