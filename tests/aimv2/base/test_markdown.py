from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aimv2.base.markdown import escape


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=40))
def test_escaped_text_is_shown_as_it_is(text):
    """By another implementation of Markdown's rules, in a line of text."""
    shown = MarkdownIt("commonmark", {"html": False}).renderInline(f"a{escape(text)}b")
    plain = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert plain == f"a{text}b" or "&" in text, "entities are text that Markdown decodes"
