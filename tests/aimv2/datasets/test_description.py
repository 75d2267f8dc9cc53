import dataclasses
from pathlib import Path

import pytest

from aimv2.base.errors import UsageError
from aimv2.datasets.description import Filter, HeldOutRule, read_labelled, read_source
from tests.helpers.own_data import write


def read(tmp_path, text, reader=read_source):
    return reader(write(tmp_path / "mine.yaml", text))


def test_a_description_is_read_from_the_folder_of_its_file(tmp_path):
    source = read(tmp_path, "folder: pictures\ntable: tables/captions.csv\nshort: caption\n")
    assert source.folder == str(tmp_path / "pictures")
    assert source.table == str(tmp_path / "tables/captions.csv")
    assert source.index == str(tmp_path / "mine.index")


def test_paths_that_are_absolute_of_the_home_or_urls_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", f"{tmp_path}/home")
    shards = ["/data/{00..09}.tar", "~/a.tar", "s3://bucket/b.tar", "c.tar"]
    source = read(tmp_path, f"shards: {shards}\nshort: txt\nindex: /indices/mine\n")
    own = (f"{tmp_path}/home/a.tar", "s3://bucket/b.tar", f"{tmp_path}/c.tar")
    assert (source.shards, source.index) == (("/data/{00..09}.tar", *own), "/indices/mine")
    write(tmp_path / "home/x.yaml", "folder: pictures\nshort: txt\n")
    assert read_source(Path("~/x.yaml")).folder == f"{tmp_path}/home/pictures"


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("short: txt", {"txt": 1}),
        ("short: json.pt", {"json.pt": 1}),
        ("short: [txt, json.alt]", {"txt": 1, "json.alt": 1}),
        ("short: {txt: 0.25, json.alt: 0.75}", {"txt": 0.25, "json.alt": 0.75}),
    ],
)
def test_captions_are_a_field_a_list_or_fields_with_probabilities(tmp_path, text, weights):
    assert read(tmp_path, f"folder: a\n{text}\n").short == weights


def test_everything_of_a_source_is_read(tmp_path):
    source = read(
        tmp_path,
        """
        folder: saved
        image: picture
        short: alt
        dense: {long: 1}
        filters: {score: {min: 0.3}, language: {any_of: [en, de]}}
        held_out: {field: split, values: [test]}
        transforms: {min_scale: 0.5, flip_probability: 0}
        licence: CC BY 4.0
        """,
    )
    assert (source.image, source.licence) == ("picture", "CC BY 4.0")
    assert source.filters == {"score": Filter(min=0.3), "language": Filter(any_of=("en", "de"))}
    assert source.held_out == HeldOutRule(field="split", values=("test",))
    assert (source.transforms.min_scale, source.transforms.flip_probability) == (0.5, 0)


WRONG = {
    "filters: {a: {minn: 3}}": "unknown key 'filters.a.minn'. Did you mean 'filters.a.min'? "
    "Allowed: filters.a.any_of, filters.a.max, filters.a.min.",
    "held_out: {fractio: 0.1}": "unknown key 'held_out.fractio'. Did you mean 'held_out.fraction'? "
    "Allowed: held_out.field, held_out.fraction, held_out.values.",
    "foldr: a": "unknown key 'foldr'. Did you mean 'folder'?",
    "parquet: a": "'parquet' is no key; pack images inside such files into shards (docs/data.md)",
    "dataset: a": "'dataset' is no key; pack images",
    "filters: {a: {}}": "filters.a: a filter needs min, max or any_of",
    "filters: {a: {min: 3, max: 1}}": "filters.a: min=3 is larger than max=1",
    "filters: {a: {any_of: []}}": "filters.a: any_of is empty",
    "filters: {a: {any_of: 3}}": "filters.a.any_of is a list: write filters.a.any_of=[3]",
    "filters: {a: {any_of: [[1]]}}": "filters.a.any_of.0.str: Input should be a valid string (got [1])",
    "filters: {a: {min: x}}": "filters.a.min: Input should be a valid number (got 'x')",
    "filters: [a]": "filters: Input should be a valid dictionary (got ['a'])",
    "held_out: {fraction: 2}": "held_out.fraction: Input should be less than 1 (got 2)",
    "held_out: {field: a}": "held_out: needs either fraction, or field with values",
    "held_out: 0.1": "held_out: Input should be a dictionary or an instance of HeldOutRule (got 0.1)",
    "transforms: {min_scale: 7}": "transforms.min_scale: Input should be less than or equal to 1 (got 7)",
    "shards: b.tar": "exactly one of shards, folder is needed, and both are given",
    "image: pyd": "the member 'pyd' is refused, because reading it can execute code",
    "dense: a.pickle": "the member 'a.pickle' is refused, because reading it can execute code",
    "dense: [{a: 1}]": "dense: Input should be a valid dictionary (got [{'a': 1}])",
    "dense: {a: 0}": "dense.a: Input should be greater than 0 (got 0)",
    "1: 2": "1: Keys should be strings (got 1)",
}


@pytest.mark.parametrize(
    ("shards", "options", "sentence"),
    [
        ("s3://b/a.tar", "{anon: true, endpoint_url: 'http://host', profile: lab, requester_pays: true}", ""),
        ("gs://b/a.tar", "{token: anon}", ""),
        (
            "s3://b/a.tar",
            "{secret: x, key: y}",
            "storage_options: key, secret is not allowed; allowed for s3:// are anon, endpoint_url, profile,"
            " requester_pays. Keys and tokens come from the environment",
        ),
        ("gs://b/a.tar", "{token: /home/me/key.json}", "token can only be anon; others come from the environment"),
        ("gs://b/a.tar", "{endpoint_url: 'http://host'}", "endpoint_url is not allowed; allowed for gs:// are"),
        ("hf://datasets/a.tar", "{endpoint: 'http://host'}", "endpoint is not allowed; allowed for hf:// are none."),
        ("a.tar", "{anon: true}", "storage_options: anon is not allowed; allowed is none for files."),
        ("[s3://b/a.tar, http://h/a.tar]", "{anon: true}", "anon is not allowed; allowed for http, s3:// are none."),
        ("s3://b/a.tar", "{endpoint_url: host}", "endpoint_url='host' must start with http:// or https://"),
    ],
)
def test_options_of_hosts_hold_no_secrets_and_send_none_elsewhere(tmp_path, shards, options, sentence):
    text = f"shards: {shards}\nshort: txt\nstorage_options: {options}\n"
    if not sentence:
        assert read(tmp_path, text).storage_options
        return
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    assert sentence in str(error.value)


@pytest.mark.parametrize("options", ["{headers: {Authorization: secret}}", "secret", "[secret]", "{key: 3}"])
def test_options_of_another_kind_are_refused_and_not_shown(tmp_path, options):
    with pytest.raises(UsageError, match="storage_options: text, true or false by name is needed") as error:
        read(tmp_path, f"shards: https://host/a.tar\nshort: txt\nstorage_options: {options}\n")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("text", "sentence"), WRONG.items())
def test_what_is_wrong_with_a_source_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(UsageError) as error:
        read(tmp_path, f"folder: a\nshort: txt\n{text}\n")
    assert str(error.value).startswith(f"{tmp_path}/mine.yaml: {sentence}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"\xff\xfe\x00", r"mine\.yaml"),
        ("- a", "must contain keys with values"),
        ("a: [", "is not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML"),
        ("folder: a\nshort: txt\nshort: json.b\n", "short is given twice"),
        ("folder: " + "[" * 3000, "is not YAML"),
        ("? [a]\n: b\n", "is not YAML|unknown key"),
        ("folder: a", "short or dense must name the field of the captions"),
        ("short: txt", "exactly one of shards, folder is needed, and none is given"),
        ("shards: a\ntable: b\nshort: txt", "table needs folder"),
        ("shards: 'pipe:curl https://a/{0..9}.tar'\nshort: txt", "a pipe is refused"),
        ("shards: 'pipe:cat a.tar'\nshort: txt", "a pipe is refused"),
    ],
)
def test_a_file_that_is_no_source_is_refused(tmp_path, text, sentence):
    with pytest.raises(UsageError, match=r"none\.yaml cannot be read"):
        read_source(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match=sentence):
        read(tmp_path, text)


def test_each_split_of_a_labelled_set_has_its_own_paths_and_index(tmp_path):
    found = read(
        tmp_path, "train: {folder: a}\ntest: {folder: b}\nlabel: folder\nclasses: {0: tench, x: shark}\n", read_labelled
    )
    assert found.train is not None
    assert (found.train.folder, found.test.folder) == (f"{tmp_path}/a", f"{tmp_path}/b")
    assert (found.train.index, found.test.index) == (f"{tmp_path}/mine-train.index", f"{tmp_path}/mine-test.index")
    assert found.classes == {"0": "tench", "x": "shark"}
    assert found.validation is None
    assert dataclasses.replace(found, name="other").test == found.test


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("label: a", "test: "),
        ("test: {folder: a}", "label: "),
        ("test: {foldr: a}\nlabel: a", "unknown key 'test.foldr'. Did you mean 'test.folder'?"),
        ("test: {folder: a, filters: {b: {mi: 1}}}\nlabel: a", "unknown key 'test.filters.b.mi'. Did you mean"),
        ("test: 3\nlabel: a", "test: Input should be a dictionary or an instance of Location (got 3)"),
        ("test: {folder: a, index: q}\ntrain: {folder: b, index: q}\nlabel: c", "need an index each"),
        ("test: {folder: a}\nlabel: b\nprompts: [a]", "prompts: 'a' must contain {} once"),
        ("test: {folder: a}\nlabel: b\nprompts: a {}", "prompts is a list: write prompts=[a {}]"),
    ],
)
def test_what_is_wrong_with_a_labelled_set_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(UsageError) as error:
        read(tmp_path, text, read_labelled)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


EXAMPLES = sorted((Path(__file__).parents[3] / "sweeps/conf/data").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_description(path):
    (read_labelled if path.stem == "imagenet" else read_source)(path)
    assert max(map(len, path.read_text().splitlines())) <= 120
