"""python -m tests.gpu.fake_gpu FOLDER: build a library there that torch takes for CUDA with one GPU (``fake_gpu.c``).

It needs a CUDA build of torch, gcc and nm, but no GPU and no driver. A process uses it with LD_PRELOAD.
"""

import ctypes
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("fake_gpu.c")
NAME = "fake H100"
LIBRARY = "libcuda.so.1"  # the name of CUDA's driver, which torch and Triton look for
CALLERS = (
    *("libc10_cuda.so", "libtorch_cuda.so", "libtorch_cuda_linalg.so", "libtorch_python.so"),
    "libcaffe2_nvrtc.so",  # whose functions torch looks up by name
)
CALLED = re.compile("cuda|cublas|cu[A-Z]")


def counter(name: str) -> ctypes.c_long:
    """Return a counter of the library that this process uses; its value can be set."""
    return ctypes.c_long.in_dll(ctypes.CDLL(LIBRARY), name)


def build(folder: Path) -> Path:
    """Compile the library and return its path.

    Functions that torch or Triton calls and that ``fake_gpu.c`` does not define do nothing and return 0, for success.
    """
    if torch.version.cuda is None:
        sys.exit(f"a fake GPU needs a CUDA build of torch, and this is {torch.__version__}")
    import triton  # which comes with a CUDA build of torch only

    folder.mkdir(parents=True, exist_ok=True)
    nvidia = Path(triton.__file__).parent / "backends" / "nvidia"
    source = SOURCE.read_text()
    own = set(re.findall(r"^[\w ]+ \**(cu\w+)\(", source, re.MULTILINE))
    others = sorted({*_of_torch(), *re.findall(r"\bcu[A-Z][A-Za-z0-9]+\b", (nvidia / "driver.c").read_text())} - own)
    rest = folder / "rest.c"
    rest.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in others))
    library = folder / LIBRARY
    options = ["-w", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", "-I", nvidia / "include"]
    subprocess.run(["gcc", *options, SOURCE, rest, "-o", library], check=True)
    return library


def _of_torch() -> Iterable[str]:
    """Yield the functions of CUDA's runtime and driver and of cuBLAS that torch calls."""
    for name in CALLERS:
        path = Path(torch.__file__).parent / "lib" / name
        listed = subprocess.run(["nm", "-D", "--undefined-only", path], check=True, capture_output=True, text=True)
        for line in listed.stdout.splitlines():
            symbol = line.split()[-1].partition("@")[0]
            if CALLED.match(symbol):
                yield symbol


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
