import pytest
import torch
import torch.nn.functional as F

from aimv2.config.run_config import ProbeConfig
from aimv2.evaluation.probe import AttentiveProbe, Features, attentive_probe, knn_accuracy, pooled_logits


def planted(num_rows, num_classes, *, seed, signal=3.0, width=16):
    """Return features in which one patch of eight carries the class, each class in its own direction."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(99))
    features = torch.randn(num_rows, 8, width, generator=generator)
    labels = torch.randint(num_classes, (num_rows,), generator=generator)
    where = torch.randint(8, (num_rows,), generator=generator)
    features[torch.arange(num_rows), where] += signal * directions[labels]
    return Features(features, labels)


def test_pooled_logits_match_textbook_attention():
    probes = [AttentiveProbe(12, 3, 5, torch.Generator().manual_seed(seed)).double() for seed in range(2)]
    features = torch.randn(4, 7, 12, dtype=torch.float64, requires_grad=True)
    expected = []
    for probe in probes:
        heads = []
        for h in range(3):
            part = slice(4 * h, 4 * h + 4)
            keys, values = features @ probe.key_DD[part].T, features @ probe.value_DD[part].T
            query = probe.query_HK[h].expand(4, 1, 4)
            heads.append(F.scaled_dot_product_attention(query, keys, values)[:, 0])
        expected.append(torch.cat(heads, dim=-1) @ probe.classifier_CD.T)
    actual = pooled_logits(probes, features)
    torch.testing.assert_close(actual, torch.stack(expected))
    for probe in probes:
        parameters = list(probe.parameters())
        one = torch.autograd.grad(actual.square().sum(), parameters, retain_graph=True)
        other = torch.autograd.grad(torch.stack(expected).square().sum(), parameters, retain_graph=True)
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b)


def test_probe_has_the_papers_number_of_parameters():
    probe = AttentiveProbe(64, 4, 10, torch.Generator())
    assert sum(p.numel() for p in probe.parameters()) == 2 * 64**2 + 64 + 10 * 64


def test_probe_finds_planted_classes_and_none_in_noise():
    config = ProbeConfig(learning_rates=(1e-3, 1e-2), weight_decays=(0.05,), epochs=20, batch_size=64, head_dim=4)
    train, validation, test = (planted(n, 4, seed=i) for i, n in enumerate((600, 200, 400)))
    found = attentive_probe(train, validation, test, 4, config, seed=0)
    assert found.test_accuracy > 0.8
    noise = [planted(n, 4, seed=10 + i, signal=0.0) for i, n in enumerate((600, 200, 400))]
    assert attentive_probe(*noise, 4, config, seed=0).test_accuracy < 0.35


def test_settings_are_selected_on_validation_only():
    """Another test split changes the test accuracy and no choice."""
    config = ProbeConfig(learning_rates=(1e-6, 1e-2), weight_decays=(0.05, 0.1), epochs=10, batch_size=64, head_dim=4)
    train, validation = planted(300, 3, seed=0), planted(100, 3, seed=1)
    results = [
        attentive_probe(train, validation, planted(100, 3, seed=s, signal=3 * (s - 2)), 3, config, seed=0)
        for s in (2, 3)
    ]
    assert len({(r.learning_rate, r.weight_decay) for r in results}) == 1
    assert results[0].test_accuracy != results[1].test_accuracy
    assert results[0].learning_rate == 1e-2


def test_settings_trained_together_match_training_alone():
    train, validation, test = (planted(120, 3, seed=i) for i in range(3))

    def best(learning_rates):
        config = ProbeConfig(learning_rates=learning_rates, weight_decays=(0.05,), epochs=5, batch_size=50, head_dim=4)
        return attentive_probe(train, validation, test, 3, config, seed=0)

    together, alone = best((1e-5, 1e-2)), best((1e-2,))
    assert together.learning_rate == alone.learning_rate
    assert together.test_accuracy == pytest.approx(alone.test_accuracy, abs=0.01)


def on_circle(angles, labels):
    """Return features with one patch per image, on the unit circle."""
    angle_N = torch.tensor(angles)
    return Features(torch.stack([angle_N.cos(), angle_N.sin()], dim=-1)[:, None], torch.tensor(labels))


@pytest.mark.parametrize(("num_neighbours", "accuracy"), [(1, 1.0), (3, 0.0), (1000, 0.0)])
def test_k_nearest_vote_or_all_if_there_are_fewer(num_neighbours, accuracy):
    # The nearest is of the test's class; two others, nearly as near, outvote it.
    train = on_circle([0.10, 0.12, -0.12], [1, 0, 0])
    assert knn_accuracy(train, on_circle([0.0], [1]), num_neighbours) == accuracy


def test_neighbours_are_nearest_by_cosine_distance():
    train = Features(torch.eye(3).repeat(5, 1)[:, None], torch.arange(3).repeat(5))
    test = Features(2.5 * torch.eye(3)[:, None] + 0.1, torch.tensor([0, 1, 0]))
    assert knn_accuracy(train, test, 3) == pytest.approx(2 / 3)
