from analysis.sections import controls
from tests.helpers.documents import text_of


def test_each_control_has_its_result_in_each_metric_that_decides(findings):
    text = text_of(controls.section(findings))
    for one in findings.controls:
        assert f"{one.metric}: **{one.result}**. {one.reason}" in text
    assert "Null control (the baseline with other seeds), content_loss: **passed**." in text


def test_untrained_encoder_is_a_control_where_claims_compare_metrics(findings):
    assert "There the untrained encoder is a control too" in text_of(controls.section(findings))
