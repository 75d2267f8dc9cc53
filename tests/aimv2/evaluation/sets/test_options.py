import pytest
from aimv2.base.errors import UsageError
from aimv2.tools.evaluate.options import USAGE, Options, checked_options, given_values

NEEDED = ["weights=w", "data=d.yaml"]


def options(*arguments):
    return checked_options(given_values([*NEEDED, *arguments]))


def test_values_are_read_and_the_rest_has_its_default():
    found = options("methods=[probe,knn]", "probe.learning_rates=[1e-3,2]", "probe.epochs=7", "knn.neighbours=[3]")
    assert (found.methods, found.probe.learning_rates, found.probe.epochs) == (("probe", "knn"), (1e-3, 2.0), 7)
    assert (found.knn.neighbours, found.linear, found.crop) == ((3,), Options(weights="", data="").linear, 0.875)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("crop=1.5", "crop: Input should be less than or equal to 1"),
        ("methods=[prob]", "methods.0: Input should be 'probe', 'linear'"),
        ("probe.epoch=3", "unknown key 'probe.epoch'. Did you mean 'probe.epochs'?"),
        ("probe.epochs=many", "probe.epochs: Input should be a valid integer"),
        ("probe.warmup_epochs=100", "warmup_epochs=100 must be less than epochs=100"),
        ("linear.l2=[0]", "linear.l2.0: Input should be greater than 0"),
        ("knn.neighbours=[1,", "is not a list such as [1,2]"),
        ("knn.neighbours=[]", "knn.neighbours: Tuple should have at least 1 item"),
        ("device=tpu", "device: Input should be 'auto', 'cpu' or 'cuda'"),
        ("weights=again", "weights= is given twice"),
        ("fast", "arguments have the form key=value"),
    ],
)
def test_a_wrong_argument_is_one_sentence(argument, message):
    with pytest.raises(UsageError) as caught:
        options(argument)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_arguments_are_named():
    with pytest.raises(UsageError, match=r"evaluate needs weights=PATH and data=FILE\.yaml"):
        given_values([])


def test_usage_shows_every_key():
    with pytest.raises(UsageError) as caught:
        given_values(["no=1"])
    for key in str(caught.value).partition("Allowed: ")[2].rstrip(".").split(", "):
        assert f"{key}=" in USAGE
