import os
import subprocess
import sys

import torch

from aimv2.hardware import hardware, has_cuda


def test_has_cuda_agrees_with_torch_once_torch_is_loaded():
    assert has_cuda() == torch.cuda.is_available()


def test_has_cuda_does_not_load_torch_without_a_driver():
    script = "import sys; from aimv2.hardware import has_cuda; print(has_cuda(drivers=()), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == ("False False\n" if sys.platform == "linux" else f"{torch.cuda.is_available()} True\n")


def test_hardware_of_the_cpu_has_its_cores():
    name, _, cores = hardware("cpu").rpartition(", ")
    assert name
    assert cores == f"{os.cpu_count()} cores"
