import numpy as np
import pytest
import torch
from aimv2.tools.evaluate.methods import heads
from aimv2.tools.evaluate.methods.heads import Labelled, Task
from aimv2.tools.evaluate.options import LinearOptions, ProbeOptions
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from aimv2.evaluation.probes.attentive import attentive_probe
from aimv2.evaluation.probes.splits import Features


def planted(num_rows, seed, *, num_classes=4, num_unused=5):
    """Return images of which one patch of six carries the class, behind rows that are not used."""
    generator = torch.Generator().manual_seed(seed)
    class_N = torch.randint(num_classes, (num_rows,), generator=generator)
    patches = torch.randn(num_rows + num_unused, 6, 8, generator=generator)
    directions = torch.randn(num_classes, 8, generator=torch.Generator().manual_seed(99))
    patches[num_unused + torch.arange(num_rows), torch.randint(6, (num_rows,), generator=generator)] += (
        4 * directions[class_N]
    )
    patches[:num_unused] = 1e3  # must have no influence
    row_N = num_unused + torch.arange(num_rows)
    return Labelled(patches.half(), patches.mean(dim=1), row_N, class_N)


@pytest.fixture(scope="module")
def task():
    return Task(planted(300, 0), planted(120, 1), planted(150, 2), 4, torch.device("cpu"))


def arrays(task):
    """Mean features and classes of the splits, for scikit-learn."""
    parts = (task.train, task.validation, task.test)
    return [(part.mean[part.row_N].double().numpy(), part.class_N.numpy()) for part in parts]


def test_linear_probe_is_scikit_learns_with_the_penalty_chosen_on_validation(task):
    (train, train_y), (validation, validation_y), (test, test_y) = arrays(task)
    mean, std = train.mean(axis=0), np.sqrt(train.var(axis=0) + 1e-6)
    train, validation, test = ((part - mean) / std for part in (train, validation, test))

    def fitted(x, y, l2):
        return LogisticRegression(C=1 / (l2 * len(y)), solver="newton-cg", tol=1e-9, max_iter=10_000).fit(x, y)

    grid = (1e-4, 1e-2, 1e-1, 1.0)
    scores = {l2: fitted(train, train_y, l2).score(validation, validation_y) for l2 in grid}
    found = heads.linear(task, LinearOptions(l2=grid))
    assert scores[found.settings["l2"]] == max(scores.values())
    both, both_y = np.concatenate([train, validation]), np.concatenate([train_y, validation_y])
    expected = fitted(both, both_y, found.settings["l2"]).predict(test) == test_y
    assert found.is_right_N.tolist() == expected.tolist()
    assert found.is_right_N.mean() > 0.6


def test_neighbours_are_scikit_learns_with_the_number_chosen_on_validation(task):
    (train, train_y), (validation, validation_y), (test, test_y) = arrays(task)
    grid = (1, 5, 20)

    def fitted(x, y, k):
        return KNeighborsClassifier(k, metric="cosine", weights="distance", algorithm="brute").fit(x, y)

    scores = {k: fitted(train, train_y, k).score(validation, validation_y) for k in grid}
    found = heads.knn(task, grid)
    assert found.settings["neighbours"] == max(scores, key=scores.get)
    both, both_y = np.concatenate([train, validation]), np.concatenate([train_y, validation_y])
    expected = fitted(both, both_y, found.settings["neighbours"]).predict(test) == test_y
    assert found.is_right_N.tolist() == expected.tolist()


def test_probe_finds_planted_classes_and_reads_only_the_rows_of_its_split(task):
    options = ProbeOptions(learning_rates=(1e-5, 1e-2), weight_decays=(0.05,), epochs=10, batch_size=64, head_dim=4)
    found = heads.probe(task, options, seed=0)
    assert found.is_right_N.mean() > 0.8
    assert found.settings == {"learning_rate": 1e-2, "weight_decay": 0.05}
    assert "at the edge" in found.warning
    assert "chosen on 120 validation images, then fitted on 420" in found.how


def test_probe_is_the_same_from_a_file_as_from_memory(task):
    """Features that float16 represents exactly are in memory as float32, or in a file with other rows."""
    options = ProbeOptions(learning_rates=(1e-3, 1e-2), weight_decays=(0.1,), epochs=4, batch_size=50, head_dim=4)
    in_file = [heads._patches(part) for part in (task.train, task.validation, task.test)]
    in_memory = [Features(part.feature_NID[part.row_N].float(), part.label_NK) for part in in_file]
    for is_refitted in (False, True):
        first, second = (
            attentive_probe(*parts, 4, options, seed=0, warmup_epochs=1, is_refitted=is_refitted)
            for parts in (in_file, in_memory)
        )
        assert first[1:] == second[1:]
        assert (first.score.num_right_N != second.score.num_right_N).mean() < 0.03


def test_settings_are_chosen_without_the_test(task):
    """Other classes of the test images change the result and no choice."""
    shuffled = task._replace(test=Labelled(*[*vars(task.test).values()][:3], task.test.class_N.roll(1)))
    for measure in (
        lambda some: heads.linear(some, LinearOptions(l2=(1e-3, 1e-1))),
        lambda some: heads.knn(some, (3, 10, 30)),
    ):
        own, other = measure(task), measure(shuffled)
        assert own.settings == other.settings
        assert own.is_right_N.mean() > other.is_right_N.mean()


def test_a_fit_that_does_not_converge_is_reported(task):
    assert "did not converge in 2 iterations" in heads.linear(task, LinearOptions(max_iterations=2)).warning


def test_progress_ends_with_the_work(task):
    options = ProbeOptions(learning_rates=(1e-2,), weight_decays=(0.05,), epochs=2, batch_size=64, head_dim=4)
    steps, fits, images = [], [], []
    heads.probe(task, options, 0, steps.append)
    heads.linear(task, LinearOptions(l2=(1e-2, 1e-1, 1e-2)), fits.append)
    heads.knn(task, (1, 5), images.append)
    assert len(steps) == sum(steps) == heads.probe_steps(task, options) == 2 * (5 + 7)
    assert fits == [1, 1, 1], "two penalties, and the last fit"
    assert sum(images) == 120 + 150
