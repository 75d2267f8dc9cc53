import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aimv2.prefix import PrefixLaw, prefix_len_at

LAWS = [
    PrefixLaw(),
    PrefixLaw(law="uniform_figure1"),
    PrefixLaw(law="causal"),
    *(PrefixLaw(law="fixed", fraction=f) for f in (0.01, 0.25, 0.5, 0.75, 0.99)),
]


def test_figure_1s_zero_acts_as_one():
    counts = np.bincount(draw(PrefixLaw(law="uniform_figure1"), 20_000, 16), minlength=16)
    expected = 20_000 * np.array([2, *[1] * 14]) / 16
    assert stats.chisquare(counts[1:], expected).pvalue > 1e-3


def draw(law, num_images, num_patches, *, seed=0, epoch=0):
    ids = np.arange(num_images)
    return law.draw(seed=seed, epoch_B=np.full(num_images, epoch), sample_id_B=ids, num_patches=num_patches)


@pytest.mark.parametrize("num_patches", [2, 16, 256])
def test_uniform_prefixes_follow_their_law(num_patches):
    lengths = draw(PrefixLaw(), 20_000, num_patches)
    counts = np.bincount(lengths, minlength=num_patches)
    assert counts[0] == 0
    assert len(counts) == num_patches, "a prefix as long as the image leaves no patch to predict"
    if num_patches > 2:
        assert stats.chisquare(counts[1:]).pvalue > 1e-3


def test_consecutive_epochs_and_seeds_draw_independently():
    first = draw(PrefixLaw(), 5000, 16)
    for other in (draw(PrefixLaw(), 5000, 16, epoch=1), draw(PrefixLaw(), 5000, 16, seed=1)):
        table = np.histogram2d(first, other, bins=[range(1, 17)] * 2)[0]
        assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("law", LAWS, ids=str)
@given(num_patches=st.integers(2, 300), first_id=st.integers(0, 2**60))
def test_a_prefix_has_a_patch_and_leaves_one(law, num_patches, first_id):
    ids = first_id + np.arange(20)
    lengths = law.draw(seed=0, epoch_B=np.zeros(20, dtype=int), sample_id_B=ids, num_patches=num_patches)
    assert lengths.min() >= 1
    assert lengths.max() <= num_patches - 1


@pytest.mark.parametrize("law", LAWS, ids=str)
@given(num_patches=st.integers(2, 300))
def test_probabilities_sum_to_one(law, num_patches):
    pmf = law.pmf(num_patches)
    assert pmf.shape == (num_patches - 1,)
    assert pmf.min() >= 0
    assert pmf.sum() == pytest.approx(1)


@pytest.mark.parametrize(("fraction", "expected"), [(0.25, 4), (0.5, 8), (0.75, 12), (0.001, 1), (0.999, 15)])
def test_a_fixed_law_draws_its_length_and_no_other(fraction, expected):
    assert set(draw(PrefixLaw(law="fixed", fraction=fraction), 500, 16)) == {expected}
    assert prefix_len_at(fraction, 16) == expected


def test_a_causal_law_shows_the_first_patch_alone():
    assert set(draw(PrefixLaw(law="causal"), 500, 16)) == {1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"law": "fixed", "fraction": 0}, "above 0 and below 1"),
        ({"law": "fixed", "fraction": 1}, "above 0 and below 1"),
        ({"law": "fixed"}, "needs a fraction"),
        ({"law": "uniform", "fraction": 0.5}, "others take none"),
        ({"law": "gaussian"}, "'uniform', 'uniform_figure1', 'fixed' or 'causal'"),
    ],
)
def test_laws_that_cannot_exist_say_why(values, message):
    with pytest.raises(ValueError, match=message):
        PrefixLaw(**values)


def test_one_patch_is_too_few():
    with pytest.raises(ValueError, match="at least 2"):
        PrefixLaw().pmf(1)
