from dataclasses import replace

import pytest

from aimv2.config.data_config import DataConfig, is_described, kind_of, source_name


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        ("openmoji_scenes", "scenes", "openmoji_scenes"),
        ("openmoji", "glyphs", "openmoji"),
        ("/data/cc3m.yaml", "files", "cc3m"),
        ("own.yml", "files", "own"),
    ],
)
def test_a_source_has_a_kind_and_a_name(source, kind, name):
    assert (kind_of(source), source_name(source)) == (kind, name)
    assert is_described(source) == (kind == "files")
    assert DataConfig(sources=(source,)).kind == kind


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sources": ("cc3m.yam",)}, "unknown source 'cc3m.yam'. Allowed: .* or the path of a .yaml file"),
        ({"sources": ("a/x.yaml", "b/x.yaml")}, "have two of the same name; rename the file of one"),
        ({"sources": ("x.yaml", "openmoji")}, "mixes files with glyphs; choose sources of one kind"),
        ({"sources": ("x.yaml", "y.yaml"), "weights": (1,)}, "weights=.* must have one value for each of sources"),
        ({"sources": ("x.yaml",), "dense_fractions": (0.1, 0.2)}, "dense_fractions=.* must have one value for each"),
    ],
)
def test_wrong_sources_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**values)


def test_each_source_has_its_share_of_dense_captions():
    config = DataConfig(dense_fraction=0.4)
    assert [config.dense_share(source) for source in range(3)] == [0.4] * 3
    own = replace(config, dense_fractions=(0.5, 0.0, 0.1))
    assert [own.dense_share(source) for source in range(3)] == [0.5, 0.0, 0.1]
