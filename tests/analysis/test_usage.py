import pytest

from aimv2.analysis.usage import report_usage, scaling_usage, verify_usage
from aimv2.config.arguments import FORM


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ([], "usage: python analysis/report.py STUDY|index"),
        (["check", "--list"], "usage: python analysis/report.py check CLAIM"),
        (["publish"], "usage: python analysis/report.py STUDY|index"),
    ],
)
def test_check_has_a_help_of_its_own(arguments, start):
    assert report_usage(arguments).startswith(start)


def test_helps_have_the_form_in_which_the_program_was_started(monkeypatch):
    monkeypatch.setenv(FORM, "aimv2")
    assert report_usage(["check"]).startswith("usage: aimv2 report check CLAIM")
    assert "any other argument of aimv2 sweep" in report_usage(["check"])
    assert scaling_usage().startswith("usage: aimv2 scaling fit FILE")
    assert verify_usage().startswith("usage: aimv2 verify [run=RUN]")
