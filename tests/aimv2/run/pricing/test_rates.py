"""Tables of rates: what an hour costs, and refusals of what cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from aimv2.run.pricing.rates import CORE, Rates, read_rates
from aimv2.runs.record import Hours

GPU, CORES = Hours(4.0, 0.0), Hours(0.0, 20.0)


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "rates.yaml"
        path.write_text(text)
        return path

    return write


def test_hours_cost_what_the_table_says(table):
    rates = read_rates(table("rates:\n  NVIDIA H100: 2.5 EUR/h\n  NVIDIA H100 NVL: 3EUR/h\n  cpu core: .03 EUR/h\n"))
    assert rates.currency == "EUR"
    assert rates.cost("NVIDIA H100 80GB HBM3", GPU) == 10.0
    assert rates.cost("nvidia h100 nvl", GPU) == 12.0, "the longer name"
    assert rates.cost("AMD EPYC, 2 cores", CORES) == pytest.approx(0.6)


def test_what_has_no_rate_has_no_cost(table):
    rates = read_rates(table("rates: {NVIDIA A100: 1 USD/h}"))
    for hardware in ("NVIDIA A1000", "NVIDIA H100", ""):
        assert rates.cost(hardware, GPU) is None
    assert rates.cost("NVIDIA A100", CORES) is None, "a CPU is priced by its cores"
    assert rates.lacking("NVIDIA H100", GPU) == "NVIDIA H100"
    assert rates.lacking("", GPU) == "hardware that is not known"
    assert rates.lacking("AMD EPYC, 2 cores", CORES) == CORE


@given(hours=st.floats(0.001, 1e5), rate=st.floats(0.001, 1e3), more=st.floats(0.001, 1e5))
def test_cost_is_additive(hours, rate, more):
    rates = Rates("EUR", ("NVIDIA H100",), (rate,))
    parts = [rates.cost("NVIDIA H100 PCIe", Hours(one, 0.0)) for one in (hours, more)]
    assert rates.cost("NVIDIA H100 PCIe", Hours(hours + more, 0.0)) == pytest.approx(sum(parts))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rates: {a: 2.5 EUR}", "cannot read the rate 'a': '2.5 EUR'; it has a form such as"),
        ("rates: {a: EUR/h}", "cannot read the rate 'a'"),
        ("rates: {a: -1 EUR/h}", "cannot read the rate 'a'"),
        ("rates: {a: 2 eur/h}", "cannot read the rate 'a'"),
        ("rates: {a: [1]}", "cannot read the rate 'a'"),
        ("rates: {'': 1 EUR/h}", "cannot read the rate ''"),
        ("rates: {a: 1 EUR/h, b: 1 USD/h}", "has rates in EUR and USD; one currency is allowed"),
        ("rates: {}", "must have the key rates"),
        ("rates: 3", "must have the key rates"),
        ("prices: {a: 1 EUR/h}", "must have the key rates"),
        ("- a", "must contain keys with values"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(table, text, message):
    with pytest.raises(UsageError, match=message) as refused:
        read_rates(table(text))
    assert "\n" not in str(refused.value)


def test_no_time_costs_nothing(table):
    assert read_rates(table("rates: {H100: 2 EUR/h}")).cost("AMD EPYC", Hours(0.0, 0.0)) == 0.0


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none.yaml cannot be read: No such file"):
        read_rates(tmp_path / "none.yaml")
