"""The attentive probe against textbook attention, and on planted classes."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from aimv2.config.evaluation_config import ProbeConfig
from aimv2.evaluation.attentive import AttentiveProbes, attentive_probe, num_steps, size_of
from aimv2.evaluation.features import Features, Splits
from aimv2.memory.evaluation import MAX_PARAMETERS, MAX_VALUES


def planted(num_rows, num_classes, *, seed, signal=3.0, width=16):
    """Return features in which one patch of eight carries the class, each class in its own direction."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(99))
    features = torch.randn(num_rows, 8, width, generator=generator)
    labels = torch.randint(num_classes, (num_rows,), generator=generator)
    where = torch.randint(8, (num_rows,), generator=generator)
    features[torch.arange(num_rows), where] += signal * directions[labels]
    return Features(features, labels[:, None])


def accuracy(score):
    return score.num_right_N.sum() / score.num_labels_N.sum()


def probes(num_settings, *shape):
    return AttentiveProbes(num_settings, *shape, torch.Generator().manual_seed(0)).double()


def test_scores_match_textbook_attention():
    found = probes(2, 3, 12, 2, 5)
    for parameter in found.parameters():  # so that the settings differ
        parameter.data[1] = torch.randn(parameter[1].shape, generator=torch.Generator().manual_seed(1))
    features = torch.randn(4, 7, 12, dtype=torch.float64, requires_grad=True)
    expected = []
    for setting in range(2):
        heads = []
        for h in range(3):
            keys, values = features @ found.key_GHWD[setting, h].T, features @ found.value_GHWD[setting, h].T
            query = found.query_GHW[setting, h].expand(4, 1, 4)
            heads.append(F.scaled_dot_product_attention(query, keys, values)[:, 0])
        pooled = torch.cat(heads, dim=-1)
        expected.append(torch.stack([pooled @ found.classifier_GKCD[setting, k].T for k in range(2)], dim=1))
    actual = found(features)
    torch.testing.assert_close(actual, torch.stack(expected))
    parameters = list(found.parameters())
    one = torch.autograd.grad(actual.square().sum(), parameters, retain_graph=True)
    other = torch.autograd.grad(torch.stack(expected).square().sum(), parameters, retain_graph=True)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


def test_settings_start_equal_and_their_gradients_are_clipped_one_by_one_as_torch_does():
    found = probes(2, 2, 8, 1, 4)
    assert all(torch.equal(*parameter) and float(parameter[0].detach().std()) > 0 for parameter in found.parameters())
    for parameter in found.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)).double()
        parameter.grad[0] *= 1e-3  # below the maximum
    expected = []
    for setting in range(2):
        own = [torch.nn.Parameter(weight[setting].detach().clone()) for weight in found.parameters()]
        for weight, parameter in zip(own, found.parameters(), strict=True):
            weight.grad = parameter.grad[setting].clone()
        torch.nn.utils.clip_grad_norm_(own, 3.0)
        expected.append([weight.grad for weight in own])
    found.clip_gradients(3.0)
    for number, parameter in enumerate(found.parameters()):
        torch.testing.assert_close(parameter.grad, torch.stack([gradients[number] for gradients in expected]))


def test_probe_finds_planted_classes_and_none_in_noise():
    config = ProbeConfig(learning_rates=(1e-3, 1e-2), weight_decays=(0.05,), epochs=20, batch_size=64, head_dim=4)
    train, validation, test = (planted(n, 4, seed=i) for i, n in enumerate((600, 200, 400)))
    found = attentive_probe(Splits(4, train, validation, test), config, seed=0)
    assert accuracy(found.score) > 0.8
    noise = [planted(n, 4, seed=10 + i, signal=0.0) for i, n in enumerate((600, 200, 400))]
    assert accuracy(attentive_probe(Splits(4, *noise), config, seed=0).score) < 0.35


def test_settings_are_selected_on_validation_only():
    config = ProbeConfig(learning_rates=(1e-6, 1e-2), weight_decays=(0.05, 0.1), epochs=10, batch_size=64, head_dim=4)
    train, validation = planted(300, 3, seed=0), planted(100, 3, seed=1)
    results = [
        attentive_probe(Splits(3, train, validation, planted(100, 3, seed=s, signal=3 * (s - 2))), config, seed=0)
        for s in (2, 3)
    ]
    assert results[0].settings == results[1].settings
    assert accuracy(results[0].score) != accuracy(results[1].score)
    assert results[0].settings["learning_rate"] == 1e-2


def test_a_grid_in_parts_and_a_step_in_parts_choose_the_same_probe():
    """With settings one by one, and of each step's images a few at a time."""
    config = ProbeConfig(
        learning_rates=(1e-5, 1e-3, 1e-2), weight_decays=(0.05, 0.1), epochs=5, batch_size=50, head_dim=4
    )
    splits = Splits(3, *(planted(n, 3, seed=i) for i, n in enumerate((120, 60, 200))))
    whole = attentive_probe(splits, config, seed=0)
    size = size_of(splits, config)
    assert (size.settings_at_once, size.images_at_once) == (6, 50)
    few = replace(size, num_outputs=MAX_PARAMETERS, num_patches=MAX_VALUES // 224 - 8)
    assert (few.settings_at_once, few.images_at_once) == (1, 7)
    steps = []
    parts = attentive_probe(splits, config, seed=0, size=few, on_step=lambda: steps.append(1))
    assert parts.settings == whole.settings
    assert (parts.score.num_right_N != whole.score.num_right_N).mean() < 0.02
    assert len(steps) == 6 * 5 * 3
    assert num_steps(splits, config) == 5 * 3


def test_missing_labels_change_no_weight():
    """Rows without labels, and further labels that are all missing, leave the found probe as it is."""
    config = ProbeConfig(learning_rates=(1e-2,), weight_decays=(0.05,), epochs=3, batch_size=500, head_dim=4)
    train, validation, test = (planted(n, 3, seed=i) for i, n in enumerate((200, 50, 100)))
    alone = attentive_probe(Splits(3, train, validation, test), config, seed=0)

    def padded(part):
        nothing = torch.full_like(part.label_NK, -1)
        return Features(part.feature_NID, torch.cat([part.label_NK, nothing], dim=1))

    both = attentive_probe(Splits(3, *map(padded, (train, validation, test))), config, seed=0)
    assert both.score.num_labels_N.tolist() == alone.score.num_labels_N.tolist() == [1] * 100
    # The first label's classifier starts from the same draws, so the guesses are the same.
    assert both.score.num_right_N.tolist() == alone.score.num_right_N.tolist()


def test_each_label_has_a_classifier_of_its_own():
    config = ProbeConfig(learning_rates=(1e-2,), weight_decays=(0.05,), epochs=30, batch_size=64, head_dim=4)

    def two_labels(part):
        return Features(part.feature_NID, torch.cat([part.label_NK, 3 - part.label_NK], dim=1))

    train, validation, test = (two_labels(planted(n, 4, seed=i)) for i, n in enumerate((600, 200, 400)))
    found = attentive_probe(Splits(4, train, validation, test), config, seed=0)
    assert found.score.num_labels_N.tolist() == [2] * 400
    assert accuracy(found.score) > 0.75


def test_equal_accuracies_are_decided_by_the_loss():
    config = ProbeConfig(learning_rates=(1e-4, 1e-3, 1e-2), weight_decays=(0.05,), epochs=5, batch_size=64, head_dim=4)
    train, validation, test = (planted(100, 1, seed=i, signal=5.0) for i in range(3))
    parts = [Features(part.feature_NID, part.label_NK) for part in (train, validation, test)]
    found = attentive_probe(Splits(2, *parts), config, seed=0)
    assert found.settings["learning_rate"] == 1e-2


def test_probe_is_the_same_from_a_file_as_from_memory():
    """Features that float16 represents exactly are in memory as float32, or in a file behind rows of other splits."""
    config = ProbeConfig(learning_rates=(1e-3, 1e-2), weight_decays=(0.1,), epochs=4, batch_size=50, head_dim=4)
    in_file, in_memory, steps = [], [], []
    for seed, num_rows in enumerate((300, 120, 150)):
        feature_NID, label_NK, _ = planted(num_rows, 4, seed=seed)
        others = torch.full((5, *feature_NID.shape[1:]), 1e3)  # must have no influence
        in_file.append(Features(torch.cat([others, feature_NID]).half(), label_NK, 5 + torch.arange(num_rows)))
        in_memory.append(Features(feature_NID.half().float(), label_NK))
    for is_refitted in (False, True):
        more = {"warmup_epochs": 1, "is_refitted": is_refitted, "on_step": lambda: steps.append(1)}
        first, second = (attentive_probe(Splits(4, *parts), config, seed=0, **more) for parts in (in_file, in_memory))
        assert first.settings == second.settings
        assert (first.score.num_right_N != second.score.num_right_N).mean() < 0.03
    splits = Splits(4, *in_memory)
    expected = 2 * (num_steps(splits, config) + num_steps(splits, config, is_refitted=True))
    assert len(steps) == expected == 2 * 4 * (2 * 6 + 9)
