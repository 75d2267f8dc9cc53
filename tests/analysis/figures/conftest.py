import pytest

from aimv2.analysis.document.style import style


@pytest.fixture(autouse=True)
def styled():
    with style():
        yield
