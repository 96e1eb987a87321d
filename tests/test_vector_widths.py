"""Every kernel that is written in vector code, against float64, at each width of vectors that this processor has.

A width is settled when `tinygrad_cv.kernels.vector` is imported, so that others than the processor's own run in a process each.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tinygrad_cv.ops import sliding

pytest.importorskip("numba")
from tinygrad_cv.kernels import vector

BOUND = {np.dtype(np.float32): 4e-6, np.dtype(np.float64): 1e-13}  # of the largest result
WINOGRAD_BOUND = {2: 4e-6, 4: 1.2e-5}


def close(actual, expected, bound=0.0):
    assert actual.shape == expected.shape
    bound = bound or BOUND[actual.dtype]
    assert np.abs(actual - expected).max() <= bound * max(1.0, np.abs(expected).max())


def numbers(rng, shape, dtype):
    """Random numbers of a dtype, and the same as float64."""
    array = rng.standard_normal(shape).astype(dtype)
    return array, array.astype(np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns", "count"), [(1, 37, 20), (3, 70, 33), (13, 5, 9), (31, 129, 40), (70, 67, 130)])
def test_products(rows, columns, count, dtype):
    """Tiles of every height, whole and ragged; both operands as they lie and transposed; what is added in the store."""
    from tinygrad_cv.ops.cpu import gemm

    rng = np.random.default_rng(rows)
    for turned_a in (False, True):
        for turned_b in (False, True):
            a, exact_a = numbers(rng, (count, rows) if turned_a else (rows, count), dtype)
            b, exact_b = numbers(rng, (columns, count) if turned_b else (count, columns), dtype)
            bias, exact_bias = numbers(rng, columns, dtype)
            a, exact_a = (a.T, exact_a.T) if turned_a else (a, exact_a)
            b, exact_b = (b.T, exact_b.T) if turned_b else (b, exact_b)
            close(gemm.product(a, b), exact_a @ exact_b)
            expected = np.maximum(0.5 * (exact_a @ exact_b) + exact_bias, 0)
            close(gemm.product(a, b, alpha=0.5, bias=bias, activation="relu"), expected)


@pytest.mark.parametrize(
    ("shape", "weight", "stride", "padding", "groups"),
    [
        ((5, 3, 11, 13), (14, 3, 5, 5), 1, 2, 1),  # whole tiles of positions, and what is left
        ((2, 7, 12, 9), (9, 7, 3, 3), 2, 1, 1),  # steps of two, woven input gradients
        ((3, 5, 9, 9), (8, 5, 1, 1), 1, 0, 1),  # without copies
        ((2, 12, 10, 10), (12, 1, 3, 3), 1, 1, 12),  # depthwise
        ((64, 3, 6, 6), (5, 3, 5, 5), 1, 1, 1),  # over images
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolutions(shape, weight, stride, padding, groups, dtype, monkeypatch):
    from tinygrad_cv.ops.cpu import conv, conv_image_weight, conv_images

    monkeypatch.setattr(conv, "_by_winograd", lambda *_: False)
    for module in (conv_images, conv_image_weight):
        monkeypatch.setattr(module, "_WORTH", 1e9)
        module.worth.cache_clear()
    rng = np.random.default_rng(7)
    (x, exact_x), (w, exact_w), (b, exact_b) = (numbers(rng, n, dtype) for n in (shape, weight, weight[0]))
    settings = (*sliding.canonical("conv", weight[2:], stride, padding, 1), groups)
    expected = sliding.convolve(exact_x, exact_w, exact_b, *settings)
    g, exact_g = numbers(rng, expected.shape, dtype)
    close(conv.conv_forward(x, w, b, *settings), expected)
    close(conv.conv_input_grad(g, w, shape[2:], *settings), sliding.convolve_input_grad(exact_g, exact_w, shape[2:], *settings))
    expected = sliding.convolve_weight_grad(exact_g, exact_x, weight[2:], *settings)
    close(conv.conv_weight_grad(g, x, weight[2:], *settings), expected)
    for module in (conv_images, conv_image_weight):
        module.worth.cache_clear()


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("shape", [(2, 5, 7, 10, 9), (1, 33, 21, 6, 6)])
def test_winograd(shape, tile):
    from tinygrad_cv.ops.cpu import winograd, winograd_weight

    images, channels, filters, height, width = shape
    rng = np.random.default_rng(tile)
    x, exact_x = numbers(rng, (images, channels, height, width), np.float32)
    w, exact_w = numbers(rng, (filters, channels, 3, 3), np.float32)
    g, exact_g = numbers(rng, (images, filters, height, width), np.float32)
    settings = (*sliding.canonical("conv", (3, 3), 1, 1, 1), 1)
    padding, bound = (1, 1), WINOGRAD_BOUND[tile]
    close(winograd.forward(x, w, None, padding, tile), sliding.convolve(exact_x, exact_w, None, *settings), bound)
    expected = sliding.convolve_input_grad(exact_g, exact_w, (height, width), *settings)
    close(winograd.input_grad(g, w, (height, width), padding, tile), expected, bound)
    expected = sliding.convolve_weight_grad(exact_g, exact_x, (3, 3), *settings)
    close(winograd_weight.weight_grad(g, x, padding, tile), expected, bound)


@pytest.mark.parametrize("bits", ["512", "256", "128"])
def test_at_each_width(bits, tmp_path_factory):
    if os.environ.get("TINYGRAD_CV_VECTOR") or int(bits) >= 8 * vector.REGISTER_BYTES:
        pytest.skip("wider than this processor's registers, these very registers, or a width is forced already")
    cache = str(tmp_path_factory.mktemp(f"cache{bits}"))
    environment = {**os.environ, "TINYGRAD_CV_VECTOR": bits, "TINYGRAD_CV_CACHE": cache}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(Path(__file__))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_an_unknown_width_is_refused():
    environment = {**os.environ, "TINYGRAD_CV_VECTOR": "96"}
    command = [sys.executable, "-c", "import tinygrad_cv.kernels.vector"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "TINYGRAD_CV_VECTOR: expected 512, 256 or 128" in done.stderr
