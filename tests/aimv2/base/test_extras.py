import sys

import pytest

from aimv2.base.errors import UsageError
from aimv2.base.extras import missing, require


def test_a_package_of_an_extra_is_named_with_what_installs_it():
    error = missing(ModuleNotFoundError(name="torch.nn"), "aimv2 train")
    assert str(error) == "aimv2 train needs torch; run: pip install 'aimv2-ablations[train]'"


def test_a_package_of_no_extra_is_a_bug():
    with pytest.raises(ModuleNotFoundError):
        missing(ModuleNotFoundError(name="aimv2.nowhere"), "aimv2 train")


def test_what_is_installed_is_not_refused(monkeypatch):
    require("torch", "aimv2 sweep")
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "imagehash", raising=False)  # another test may have imported it
    with pytest.raises(UsageError, match=r"^aimv2 sweep needs imagehash; run: pip install 'aimv2-ablations\[train\]'$"):
        require("imagehash", "aimv2 sweep")
