import pytest
from aimv2.base.errors import UsageError
from benchmarks.command import bench_command


def test_benchmarks_are_listed(capsys):
    assert bench_command(["--help"]) == 0
    listed = capsys.readouterr().out
    assert "encoder" in listed
    assert "data" in listed
    assert "step" in listed


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(UsageError, match=r"'decoder'.*Allowed: data, encoder, step"):
        bench_command(["decoder"])
