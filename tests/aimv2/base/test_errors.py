import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aimv2.base.errors import RunFailedError, UsageError, did_you_mean, escape, missing, require, unknown


def test_unknown_suggests_the_closest_name_and_lists_all_once_in_order():
    error = unknown("sweep", "prefix_rato", ["prefix_ratio", "eos", "prefix_ratio"])
    assert isinstance(error, UsageError)
    assert str(error) == "unknown sweep 'prefix_rato'. Did you mean 'prefix_ratio'? Allowed: eos, prefix_ratio."
    names = ["eos", "loss_form"]
    assert (did_you_mean("eso", names), did_you_mean("resolution", names)) == (" Did you mean 'eos'?", "")


def test_run_failed_error_passes_from_one_process_to_another():
    error = pickle.loads(pickle.dumps(RunFailedError("data", "the shard is gone")))
    assert (type(error), error.cause, str(error)) == (RunFailedError, "data", "the shard is gone")


def test_a_package_of_an_extra_is_named_with_what_installs_it_and_one_of_no_extra_is_a_bug():
    error = missing(ModuleNotFoundError(name="torch.nn"), "aimv2 train")
    assert str(error) == "aimv2 train needs torch; run: pip install 'aimv2-ablations[train]'"

    with pytest.raises(ModuleNotFoundError):
        missing(ModuleNotFoundError(name="aimv2.nowhere"), "aimv2 train")


def test_what_is_installed_is_not_refused(monkeypatch):
    require("torch", "aimv2 sweep")
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "imagehash", raising=False)  # another test may have imported it
    with pytest.raises(UsageError, match=r"^aimv2 sweep needs imagehash; run: pip install 'aimv2-ablations\[train\]'$"):
        require("imagehash", "aimv2 sweep")


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=40))
def test_escaped_text_is_shown_as_it_is(text):
    """By another implementation of Markdown's rules, in a line of text."""
    shown = MarkdownIt("commonmark", {"html": False}).renderInline(f"a{escape(text)}b")
    plain = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert plain == f"a{text}b" or "&" in text, "entities are text that Markdown decodes"
