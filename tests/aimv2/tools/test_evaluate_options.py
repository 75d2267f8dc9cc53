"""Options of ``evaluate``."""

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.arguments import read_options
from aimv2.config.evaluation_config import ProbeConfig
from aimv2.tools.evaluate_options import EvaluateOptions

NEEDED = ["weights=w", "data=d.yaml"]


def test_values_are_read_and_the_rest_has_its_default():
    given = ["methods=[probe,knn]", "probe.learning_rates=[1e-3,2]", "probe.epochs=7", "knn.neighbours=[3]"]
    found = read_options(EvaluateOptions, [*NEEDED, *given])
    assert (found.methods, found.probe.learning_rates, found.probe.epochs) == (("probe", "knn"), (1e-3, 2.0), 7)
    default = EvaluateOptions(weights="", data="")
    assert (found.knn.neighbours, found.linear, found.crop) == ((3,), default.linear, None)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("crop=1.5", "crop: Input should be less than or equal to 1"),
        ("methods=[prob]", "methods.0: Input should be 'probe', 'linear'"),
        ("methods=probe", "methods is a list: write methods=[probe]"),
        ("probe.epoch=3", "unknown key 'probe.epoch'. Did you mean 'probe.epochs'?"),
        ("probe.warmup_epochs=100", "warmup_epochs=100 must be less than epochs=100"),
        ("linear.l2=[0]", "linear.l2.0: Input should be greater than 0"),
        ("knn.neighbours=[]", "knn.neighbours: Tuple should have at least 1 item"),
        ("device=tpu", "device: Input should be 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_a_wrong_argument_is_one_sentence(argument, message):
    with pytest.raises(UsageError) as caught:
        read_options(EvaluateOptions, [*NEEDED, argument])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_default_grid_is_the_papers():
    options = EvaluateOptions(weights="", data="").probe
    assert options.learning_rates == (5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3)
    assert (options.weight_decays, options.epochs, options.batch_size) == ((0.05, 0.1), 100, 512)
    assert set(options.learning_rates) <= set(ProbeConfig().learning_rates)
