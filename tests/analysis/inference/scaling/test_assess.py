"""Warnings, each provoked; none where the form is right."""

import pytest

from aimv2.analysis.inference.scaling.assess import assess
from tests.helpers.scaling import HOFFMANN, ladder_runs


def warnings_of(runs, form="additive", variables=("n", "d")):
    return assess(runs, variables, form, num_draws=20).warnings


def test_the_right_form_of_a_good_ladder_has_no_warning():
    law = assess(ladder_runs(HOFFMANN, noise=0.003, seed_noise=0.002), ["n", "d"], "additive", num_draws=20)
    assert law.warnings == []
    assert law.chosen.form.name == "additive"
    assert law.law is law.chosen.law


@pytest.mark.exhaustive
def test_a_wrong_form_is_told_in_two_ways():
    found = "\n".join(warnings_of(ladder_runs(HOFFMANN, noise=0.003, rng=1), form="n"))
    assert "E + A n^-a + B d^-b predicts the held-out runs better than E + A n^-a." in found
    assert "The form does not fit: settings deviate from it by " in found


@pytest.mark.exhaustive
def test_what_cannot_be_tested_is_told():
    found = "\n".join(warnings_of(ladder_runs(HOFFMANN, noise=0.003, num_seeds=1, sizes=3, samples=3)))
    assert "not tested on larger runs: nothing is held out" in found
    assert "Lack of fit is not testable without settings that were run with several seeds." in found
