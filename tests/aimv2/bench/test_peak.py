"""The peak memory of a call, against sums of tensors."""

import torch
from benchmarks.peak import peak_bytes
from torch import nn

MB = 2**20


def test_peak_is_that_of_the_tensors_alive_together():
    def call():
        first = torch.empty(MB, dtype=torch.uint8)
        second = torch.empty(2 * MB, dtype=torch.uint8)
        del first
        third = torch.empty(4 * MB, dtype=torch.uint8)
        del second, third
        return torch.empty(3 * MB, dtype=torch.uint8)

    assert peak_bytes(call, "cpu") == 6 * MB


def test_what_was_allocated_before_does_not_count():
    kept = [torch.empty(8 * MB, dtype=torch.uint8)]
    assert peak_bytes(lambda: torch.empty(MB, dtype=torch.uint8), "cpu") == MB

    def call():
        kept.clear()
        kept.append(torch.empty(MB, dtype=torch.uint8))

    assert peak_bytes(call, "cpu") == MB, "nor does its release"


def test_backward_pass_holds_what_autograd_saves():
    layers = nn.Sequential(*(nn.Tanh() for _ in range(5)))
    image = torch.randn(MB // 4, requires_grad=True)
    with torch.no_grad():
        inference = peak_bytes(lambda: layers(image), "cpu")
    assert inference == 2 * MB, "input and output of a layer; the first input is the caller's"
    assert peak_bytes(lambda: layers(image), "cpu") == 5 * MB, "the outputs of all layers"
