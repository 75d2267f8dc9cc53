"""The command, its methods against independent oracles, and its results."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from rich.console import Console
from sklearn.datasets import load_digits

from aimv2.base.errors import UsageError
from aimv2.cli import main
from aimv2.data.decode import square
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import Colours, network_input
from aimv2.datasets.description import LabelledDescription, Location
from aimv2.evaluation.features import Features, Splits
from aimv2.tools.evaluate import accuracy, chosen_methods, class_names, linear_probe, print_results
from aimv2.tools.features import embed_texts, load_model
from aimv2.tools.weights import Preprocessing
from tests.helpers.labelled_digits import indexed, labelled_digits
from tests.helpers.own_data import settle

QUICK = ["crop=1", "probe.learning_rates=[1e-3]", "probe.weight_decays=[0.1]", "probe.epochs=2"]
AS_TRAINED = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder: its exit status, what it printed, and the results that it wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(weights, data, *arguments, quick=QUICK):
        status = main(["evaluate", f"weights={weights}", f"data={data}", *quick, *arguments])
        written = sorted(Path("evaluations").glob("*.json"))
        return status, "".join(capsys.readouterr()), [json.loads(path.read_text()) for path in written]

    return run


def test_a_run_with_a_text_encoder_is_measured_by_every_method(evaluate, digits, pair):
    status, shown, (record,) = evaluate(pair[0], digits)
    assert status == 0, shown
    results = record["results"]
    assert list(results) == ["probe", "linear", "knn", "zero_shot"]
    for name, result in results.items():
        low, high = result["interval_95"]
        assert 0 <= low <= result["value"] <= high <= 1
        assert f"{100 * result['value']:.2f} %" in shown
        assert name in shown
    assert record["splits"]["test"] == {"images": 40, "unusable": {}, "first_unusable": []}
    assert (record["set"], record["classes"]) == ("written", 10)
    assert record["images"] == {"image_px": 16, "crop": 1.0, **AS_TRAINED}
    assert "images: of 16 px, the centre 1 of the shorter side; normalised by mean 0.485 0.456 0.406 and" in shown
    assert results["linear"]["value"] > 0.3
    work = ("encoding test", "encoding train", "encoding texts", "fitting probe")
    lines = [line.split() for line in shown.splitlines() if line.startswith(work)]
    assert {" ".join(line[:2]) for line in lines} == set(work)
    for *_, count, _ in lines:
        done, total = count.split("/")
        assert done == total


def test_the_preprocessing_of_a_checkpoint_is_used_and_recorded(evaluate, digits, public, tmp_path):
    folder = shutil.copytree(public[0], tmp_path / "aimv2-tiny")
    colours = Colours((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    (folder / "preprocessor_config.json").write_text(Preprocessing(colours, 0.7).to_json(28))
    quick = [word for word in QUICK if word != "crop=1"]
    status, shown, (record,) = evaluate(folder, digits, "methods=[knn]", quick=quick)
    assert status == 0
    assert record["images"] == {"image_px": 28, "crop": 0.7, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    assert "the centre 0.7 of the shorter side; normalised by mean 0.5 0.4 0.3 and standard deviation 0.2 0.3" in shown
    _, _, (cropped,) = evaluate(folder, digits, "methods=[knn]", "crop=1", quick=quick)
    assert cropped["images"] == record["images"] | {"crop": 1.0}, "what is typed is used"
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    status, shown, _ = evaluate(folder, digits, "methods=[knn]", quick=quick)
    assert status == 2
    assert "shows images in another way" in shown


def test_samples_that_are_excluded_have_no_features_and_edited_data_are_refused(evaluate, public, tmp_path):
    digits = labelled_digits(tmp_path / "digits")
    _, _, (whole,) = evaluate(public[0], digits, "methods=[knn]")
    keys = [str(path.relative_to(digits.parent / "test")) for path in sorted((digits.parent / "test").rglob("*.png"))]
    (digits.parent / "leaks.txt").write_text("\n".join(keys[:5]))
    values = yaml.safe_load(digits.read_text())
    values["test"]["exclude"] = "leaks.txt"
    digits.write_text(yaml.safe_dump(values))
    indexed(digits)
    _, shown, (record,) = evaluate(public[0], digits, "methods=[knn]")
    assert "encoding test" in shown
    assert record["splits"]["test"]["images"] == whole["splits"]["test"]["images"] - 5
    settle(digits.parent)
    indexed(digits)
    for path in (digits.parent / "train").rglob("*.png"):
        path.write_bytes((digits.parent / "test" / keys[0]).read_bytes())
    status, shown, _ = evaluate(public[0], digits, "methods=[knn]")
    assert (status, "is not as it was indexed" in shown) == (2, True)


def test_zero_shot_takes_the_class_of_the_nearest_mean_of_prompts(evaluate, digits, pair):
    folder, network = pair
    status, _, (record,) = evaluate(folder, digits, "methods=[zero_shot]")
    assert status == 0
    tokenizer = CaptionTokenizer.load(next(folder.rglob("tokenizer.json")))
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    paths = sorted((digits.parent / "test").rglob("*.png"))
    images = np.stack([square(path.read_bytes(), 16, 10**6) for path in paths])
    with torch.no_grad():
        image_NS = network.embed_images(network_input(torch.from_numpy(images)))
        scores = []
        for name in names:
            token_BT = tokenizer.encode([f"a photo of a {name}", f"a {name}"], 12)
            length_B = torch.from_numpy(tokenizer.lengths(token_BT))
            vector_S = network.embed_texts(torch.from_numpy(token_BT), length_B).mean(dim=0)
            scores.append(torch.cosine_similarity(image_NS, vector_S, dim=-1))
    is_right = torch.stack(scores).argmax(dim=0) == torch.tensor([int(path.parent.name) for path in paths])
    assert record["results"]["zero_shot"]["value"] == pytest.approx(is_right.double().mean().item(), abs=1e-9)


def test_a_second_evaluation_reads_saved_features(evaluate, digits, public):
    first = evaluate(public[0], digits, "methods=[linear]")
    assert "take" in first[1]
    status, shown, (record,) = evaluate(public[0], digits, "methods=[linear]")
    assert status == 0
    assert "features: all saved" in shown
    assert record["results"] == first[2][0]["results"]


def test_a_set_without_an_index_names_the_command(evaluate, digits, public, tmp_path):
    values = {"train": {"folder": str(digits.parent)}, "test": {"folder": str(digits.parent)}, "label": "folder"}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(values))
    status, shown, _ = evaluate(public[0], "other.yaml", "methods=[knn]")
    assert (status, "python -m aimv2 data index" in shown) == (2, True)


def test_unusable_images_are_printed_and_too_many_stop(evaluate, digits, public, tmp_path):
    shutil.copytree(digits.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("*.index"))
    path = next((tmp_path / "copy" / "train" / "3").iterdir())
    path.write_bytes(path.read_bytes()[:60])
    data = indexed(tmp_path / "copy" / "written.yaml")
    status, shown, records = evaluate(public[0], data, "methods=[knn]", "max_bad_rate=0.001")
    assert (status, records) == (1, [])
    assert "train: 1 of 120 images cannot be used (1 undecodable image" in shown
    status, shown, (record,) = evaluate(public[0], data, "methods=[knn]")
    assert status == 0
    assert "train: 1 of 120 images are left out (1 undecodable image)" in shown
    assert record["splits"]["train"]["unusable"] == {"undecodable image": 1}
    assert record["splits"]["train"]["first_unusable"][0][0] == f"3/{path.name}"


def test_help_is_printed(capsys):
    assert main(["evaluate", "--help"]) == 0
    assert "weights=PATH" in capsys.readouterr().out
    assert main(["evaluate", "methods=[knn]"]) == 2
    assert "evaluate needs weights=PATH and data=FILE.yaml" in capsys.readouterr().err


PLACE = Location(folder="images")


def described(**values):
    return LabelledDescription(test=PLACE, name="things", label="folder", **values)


def test_methods_are_those_that_set_and_weights_allow(public, pair):
    alone, both, trained = load_model(public[0]), load_model(pair[0]), described(train=PLACE)
    assert chosen_methods(trained, both, None) == ["probe", "linear", "knn", "zero_shot"]
    assert chosen_methods(trained, alone, None) == ["probe", "linear", "knn"]
    assert chosen_methods(described(), both, None) == ["zero_shot"]
    assert chosen_methods(trained, both, ["zero_shot", "knn", "knn"]) == ["knn", "zero_shot"]
    with pytest.raises(UsageError, match="nothing can be measured: things has no train; aimv2-tiny is no run"):
        chosen_methods(described(), alone, None)
    with pytest.raises(UsageError, match="is no run that trained a text encoder"):
        chosen_methods(trained, replace(both, tokenizer=None), ["zero_shot"])
    with pytest.raises(UsageError, match="methods: linear is not possible, because things has no train"):
        chosen_methods(described(), both, ["linear"])


@pytest.fixture(scope="module")
def splits():
    """Noisy handwritten digits: 300 for training, 150 for validation, the rest for the test."""
    feature_ND, class_N = load_digits(return_X_y=True)
    noise_ND = 10 * np.random.default_rng(0).standard_normal(feature_ND.shape)
    rows = (slice(0, 300), slice(300, 450), slice(450, 900))
    feature_ND, class_N = torch.from_numpy(feature_ND + noise_ND), torch.from_numpy(class_N)
    return Splits(10, *(Features(feature_ND[part, None], class_N[part, None]) for part in rows))


def minimised(feature_ND, class_N, l2):
    """Minimise mean cross-entropy + l2 / 2 |W|^2 by torch's L-BFGS: weights and biases."""
    weight_CD = torch.zeros(10, feature_ND.shape[1], dtype=torch.float64, requires_grad=True)
    bias_C = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    options = {"max_iter": 2000, "tolerance_grad": 1e-9, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([weight_CD, bias_C], **options)

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(feature_ND, weight_CD, bias_C), class_N) + l2 / 2 * weight_CD.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight_CD.detach(), bias_C.detach()


def test_linear_probe_minimises_the_stated_loss_with_the_penalty_chosen_on_validation(splits):
    (train, train_y), (validation, validation_y), (test, test_y) = (
        (part.feature_NID[:, 0], part.label_NK[:, 0]) for part in splits[1:]
    )

    def right(feature_ND, class_N, tested_ND, tested_N, l2):
        mean_D, std_D = feature_ND.mean(dim=0), feature_ND.std(dim=0, correction=0).clamp(min=1e-12)
        fit = minimised((feature_ND - mean_D) / std_D, class_N, l2)
        return F.linear((tested_ND - mean_D) / std_D, *fit).argmax(dim=1) == tested_N

    grid = (1e-3, 1e-2, 1e-1, 1.0)
    scores = {l2: int(right(train, train_y, validation, validation_y, l2).sum()) for l2 in grid}
    found = linear_probe(splits, grid)
    best = found.settings["l2"]
    assert scores[best] == max(scores.values()) > min(scores.values())
    expected = right(torch.cat([train, validation]), torch.cat([train_y, validation_y]), test, test_y, best)
    assert found.score.num_right_N.tolist() == expected.tolist()
    assert found.score.num_right_N.mean() > 0.4
    shuffled = splits._replace(test=splits.test._replace(label_NK=splits.test.label_NK.roll(1, dims=0)))
    assert linear_probe(shuffled, grid).settings == found.settings


def test_of_equally_good_penalties_the_stronger_is_chosen_and_a_fit_that_does_not_converge_is_reported(splits):
    assert linear_probe(splits, (1e-2, 1.00001e-2)).settings == {"l2": 1.00001e-2}
    assert "did not converge in 2 iterations" in linear_probe(splits, (1e-4,), max_iterations=2).warning
    alone = splits._replace(train=splits.train._replace(label_NK=torch.zeros(300, 1, dtype=torch.int64)))
    with pytest.raises(UsageError, match="at least two classes"):
        linear_probe(alone)


@pytest.mark.parametrize(("num_right", "num"), [(0, 10), (7, 10), (10, 10), (43_000, 50_000)])
def test_share_has_wilsons_interval(num_right, num):
    result = accuracy(np.arange(num) < num_right, "")
    value, (low, high) = result["value"], result["interval_95"]
    assert value == num_right / num
    z = 1.959963984540054
    for bound in (low, high):  # Wilson's bounds solve this equation
        assert (value - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / num, abs=1e-9)
    assert low <= value <= high


def test_a_row_shows_result_interval_and_settings():
    console = Console(record=True, width=160)
    probe = {"value": 0.87654, "interval_95": [0.85, 0.9], "how": "how it was done", "warning": "a doubt"}
    knn = {"value": 0.5, "interval_95": [0.4, 0.6], "how": "another way", "settings": {}, "warning": ""}
    print_results({"probe": probe | {"settings": {"learning_rate": 1e-3}}, "knn": knn}, "title", console)
    shown = console.export_text()
    for text in ("87.65 %", "85.00 to 90.00", "learning_rate 0.001", "how it was done", "another way"):
        assert text in shown
    assert "warning: probe: a doubt" in shown


def test_texts_are_embedded_as_in_training(pair, extraction):
    folder, network = pair
    model = load_model(folder)
    texts = ["a photo of a zero", "Seven", "a one two " * 9, "nine"]
    found = embed_texts(replace(extraction, model=model), texts, batch_size=3)
    token_BT = model.tokenizer.encode(texts, 12)
    length_B = torch.from_numpy(model.tokenizer.lengths(token_BT))
    with torch.no_grad():
        expected = network.embed_texts(torch.from_numpy(token_BT), length_B)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_names_of_classes_are_given_for_all_or_none():
    assert class_names(["tabby_cat", "1"], {}) == {"1": "1", "tabby_cat": "tabby cat"}
    assert class_names(["1", "0"], {"0": "no", "1": "yes", "2": "unused"}) == {"0": "no", "1": "yes"}
    with pytest.raises(UsageError, match="no name for 1"):
        class_names(["1", "0"], {"0": "no"})
