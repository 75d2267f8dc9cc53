from analysis.sensitivity import not_measured, read_sensitivity


def test_nothing_is_known_without_a_sensitivity_study(tmp_path):
    assert read_sensitivity(tmp_path, "demo") == {}


def test_note_says_what_to_run():
    assert not_measured("caption_loss", "tiny") == (
        "sensitivity of caption_loss at scale tiny was not measured: run sweep=sensitivity scale=tiny"
    )
