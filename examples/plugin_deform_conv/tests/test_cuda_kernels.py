"""The CUDA kernels: in Numba's simulator against the references, and compiled for a GPU where NVVM is installed."""

import os
import subprocess
import sys

import pytest

numba = pytest.importorskip("numba")

# The simulator must be chosen before Numba is imported, hence a process of its own. Few threads: a second of it runs about a thousand.
SIMULATED = """
import numpy as np
import tinygrad_cv as tg
from deform_conv_ops import cuda
from tinygrad_cv.domain import NumpyDraw

cuda.THREADS, cuda.BLOCKS = 16, 2  # so that every thread goes round its loop again
for name in ("deform_sample", "deform_scatter"):
    operator = tg.ops.get(name)
    for seed in range(6):
        for dtype in (np.float32, np.float64):
            call = operator.domain(NumpyDraw(seed))
            arguments = [a.astype(dtype) if isinstance(a, np.ndarray) else a for a in call.args]
            got, expected = getattr(cuda, name)(*arguments), operator.reference(*arguments)
            assert got.dtype == dtype and got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=0, atol=64 * np.finfo(dtype).eps)
"""


def test_the_kernels_in_the_simulator():
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run([sys.executable, "-c", SIMULATED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [numba.float32, numba.float64], ids=str)
@pytest.mark.parametrize("name", ["sample", "scatter"])
def test_the_kernels_compiled_for_a_gpu(name, number):
    from deform_conv_ops import cuda as kernels
    from numba import cuda, int64, types

    first, out = (4, 5) if name == "sample" else (5, 4)
    two = types.UniTuple(int64, 2)
    kinds = (
        types.Array(number, first, "C"), types.Array(number, 6, "C"), int64, two, two, two, two, number, types.Array(number, out, "C"),
    )  # fmt: skip
    try:
        ptx, _ = cuda.compile_ptx(getattr(kernels, name).py_func, kinds, cc=(9, 0))
    except Exception as error:
        if type(error).__name__ != "NvvmSupportError":
            raise
        pytest.skip(f"NVVM, which compiles for NVIDIA's GPUs, is not installed: {error}")
    assert ".target sm_90" in ptx and ("atom" in ptx or "red." in ptx) == (name == "scatter")
