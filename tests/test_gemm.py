"""Matrix products by register tiles: every layout, ragged sizes, against products in longer floats; the same bits at any thread count."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import kernels

pytest.importorskip("numba")
from tinygrad_cv.ops.cpu import gemm as seam

# (rows, columns, summed): just above what goes to the tiles, ragged in every direction, several blocks deep, wide and high.
SIZES = [(64, 64, 64), (97, 130, 101), (7 * 13, 8, 1600), (8, 1031, 150), (33, 1100, 530), (257, 519, 1030), (1100, 33, 70)]


def matrix(rows: int, columns: int, layout: str, dtype: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if layout == "rows":
        return rng.standard_normal((rows, columns)).astype(dtype)
    if layout == "columns":
        return rng.standard_normal((columns, rows)).astype(dtype).T
    if layout == "slice":
        return rng.standard_normal((rows + 2, columns + 5)).astype(dtype)[1:-1, 2:-3]
    if layout == "every other":
        return rng.standard_normal((2 * rows, 3 * columns)).astype(dtype)[::2, ::3]
    if layout == "backwards":
        return rng.standard_normal((rows, columns)).astype(dtype)[::-1, ::-1]
    if layout == "one row":
        return np.broadcast_to(rng.standard_normal((1, columns)).astype(dtype), (rows, columns))
    frozen = rng.standard_normal((rows, columns)).astype(dtype)
    frozen.flags.writeable = False
    return frozen


def agrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = seam.gemm(a, b)
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    exact = a.astype(wide) @ b.astype(wide)
    # The bound of any order of summation: Higham, Accuracy and Stability of Numerical Algorithms, (3.13).
    bound = a.shape[1] * np.finfo(a.dtype).eps / 2 * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)) * 1.01
    assert out.dtype == a.dtype and out.shape == exact.shape
    assert (np.abs(out - exact) <= bound).all()
    return out


@pytest.mark.parametrize("right", ["rows", "columns"])
@pytest.mark.parametrize("left", ["rows", "columns"])
@pytest.mark.parametrize("size", SIZES)
def test_products_of_every_shape(size: tuple[int, int, int], left: str, right: str) -> None:
    rows, columns, count = size
    for dtype in ("float32", "float64"):
        agrees(matrix(rows, count, left, dtype, 0), matrix(count, columns, right, dtype, 1))


@pytest.mark.parametrize("right", ["slice", "every other", "backwards", "one row", "frozen", "columns"])
@pytest.mark.parametrize("left", ["slice", "every other", "backwards", "one row", "frozen", "rows"])
def test_products_of_strided_operands(left: str, right: str) -> None:
    agrees(matrix(70, 150, left, "float32", 0), matrix(150, 90, right, "float32", 1))


@pytest.mark.parametrize("layouts", [("rows", "rows"), ("columns", "rows"), ("rows", "columns"), ("columns", "columns")])
@pytest.mark.parametrize("size", SIZES)
def test_the_number_of_threads_changes_no_bit(size: tuple[int, int, int], layouts: tuple[str, str]) -> None:
    rows, columns, count = size
    a, b = matrix(rows, count, layouts[0], "float32", 0), matrix(count, columns, layouts[1], "float32", 1)
    most = tg.get_num_threads()
    results = []
    for threads, context in ((most, contextlib.nullcontext()), (most, kernels.serial()), (1, contextlib.nullcontext())):
        tg.set_num_threads(threads)
        try:
            with context:
                results.append(seam.gemm(a, b))
        finally:
            tg.set_num_threads(most)
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("size", [(97, 130, 101), (257, 519, 1030)])
def test_nan_and_infinity_stay_in_their_rows_and_columns(size: tuple[int, int, int]) -> None:
    rows, columns, count = size
    for left, right in (("rows", "rows"), ("columns", "rows"), ("rows", "columns")):
        a, b = matrix(rows, count, left, "float32", 0), matrix(count, columns, right, "float32", 1)
        a[5, 3], b[7, 2] = np.nan, np.inf
        out = seam.gemm(a, b)
        expected = np.zeros((rows, columns), bool)
        expected[5] = expected[:, 2] = True
        np.testing.assert_array_equal(~np.isfinite(out), expected)


def test_blocks_work_for_one_share_among_many() -> None:
    a, b = matrix(300, 700, "rows", "float32", 0), matrix(700, 610, "columns", "float32", 1)
    exact = a.astype(np.float64) @ b
    alone = np.empty((300, 610), np.float32)
    seam._blocked(a, b, alone, 1)
    np.testing.assert_allclose(alone, exact, rtol=1e-3, atol=1e-3)
    for shares in (2, 3, 6, 16):
        out = np.full((300, 610), np.nan, np.float32)
        seam._blocked(a, b, out, shares)
        assert np.array_equal(out, alone)
