from aimv2.run.options import train_usage


def test_the_help_has_the_options_of_train_and_the_values_of_a_run():
    text = train_usage()
    assert text.startswith("usage: python -m aimv2 train [key=value ...]\n")
    assert all(key in text for key in ("runs_dir=runs", "limit=2h", "scale=demo", "8.6e+16 FLOPs"))
