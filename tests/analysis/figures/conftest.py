import pytest

from analysis.document.style import style


@pytest.fixture(autouse=True)
def styled():
    with style():
        yield
