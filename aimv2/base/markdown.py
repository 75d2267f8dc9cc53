"""Markdown of model cards and reports."""

import re


def escape(text: str) -> str:
    """Escape text from captions, descriptions and errors, so that it becomes no markup and breaks no table."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text).replace("\n", " ")
