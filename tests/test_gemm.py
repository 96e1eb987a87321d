"""Matrix products: every layout, ragged sizes, stacks, what follows in the store; the same bits at any thread count."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import kernels

pytest.importorskip("numba")
from tinygrad_cv.ops.cpu import gemm as seam

# (rows, columns, summed): single ones, fewer than a tile, ragged in every direction, several blocks deep, wide and high.
SIZES = [
    (1, 1, 1), (1, 33, 70), (3, 40, 50), (70, 1, 33), (5, 7, 9), (11, 17, 1), (64, 64, 64), (97, 130, 101), (91, 8, 1600), (8, 1031, 150),
    (33, 1100, 530), (257, 519, 1030), (1100, 33, 70),
]  # fmt: skip
LAYOUTS = ["rows", "columns", "slice", "every other", "backwards", "one row", "frozen"]


def matrix(shape: tuple[int, ...], layout: str, dtype: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    *lead, rows, columns = shape
    if layout == "rows":
        return rng.standard_normal(shape).astype(dtype)
    if layout == "columns":
        return np.swapaxes(rng.standard_normal((*lead, columns, rows)).astype(dtype), -1, -2)
    if layout == "slice":
        return rng.standard_normal((*lead, rows + 2, columns + 5)).astype(dtype)[..., 1:-1, 2:-3]
    if layout == "every other":
        return rng.standard_normal((*lead, 2 * rows, 3 * columns)).astype(dtype)[..., ::2, ::3]
    if layout == "backwards":
        return rng.standard_normal(shape).astype(dtype)[..., ::-1, ::-1]
    if layout == "one row":
        return np.broadcast_to(rng.standard_normal((*lead, 1, columns)).astype(dtype), shape)
    frozen = rng.standard_normal(shape).astype(dtype)
    frozen.flags.writeable = False
    return frozen


def agrees(a: np.ndarray, b: np.ndarray, alpha=1.0, beta=1.0, bias=None, activation=None, residual=None) -> np.ndarray:
    """The product, after comparing it with one in a longer float."""
    out = seam.product(a, b, None, alpha, beta, bias, activation, residual)
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    exact = alpha * (a.astype(wide) @ b.astype(wide))
    magnitude = abs(alpha) * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    for addend, factor in ((residual, beta), (bias, 1.0)):
        if addend is not None and factor:
            exact = exact + factor * addend.astype(wide)
            magnitude = magnitude + np.abs(factor * addend)
    if activation == "relu":
        exact = np.maximum(exact, 0)
    # The bound of any order of summation: Higham, Accuracy and Stability of Numerical Algorithms, (3.13).
    bound = (a.shape[-1] + 4) * np.finfo(a.dtype).eps / 2 * magnitude * 1.01
    assert out.dtype == a.dtype and out.shape == exact.shape
    assert (np.abs(out - exact) <= bound).all()
    return out


@pytest.mark.parametrize("right", ["rows", "columns"])
@pytest.mark.parametrize("left", ["rows", "columns"])
@pytest.mark.parametrize("size", SIZES)
def test_products_of_every_shape(size: tuple[int, int, int], left: str, right: str) -> None:
    rows, columns, count = size
    for dtype in ("float32", "float64"):
        agrees(matrix((rows, count), left, dtype, 0), matrix((count, columns), right, dtype, 1))


@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
def test_products_of_strided_operands(left: str, right: str) -> None:
    for rows, columns, count in ((70, 90, 150), (2, 5, 3)):
        agrees(matrix((rows, count), left, "float32", 0), matrix((count, columns), right, "float32", 1))


@pytest.mark.parametrize("layouts", list(itertools.product(["rows", "columns"], repeat=2)))
@pytest.mark.parametrize("size", SIZES)
def test_the_number_of_threads_changes_no_bit(size: tuple[int, int, int], layouts: tuple[str, str]) -> None:
    rows, columns, count = size
    a, b = matrix((rows, count), layouts[0], "float32", 0), matrix((count, columns), layouts[1], "float32", 1)
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


@pytest.mark.parametrize("size", [(300, 610, 700), (7, 2, 50), (3, 130, 40)])
def test_any_cut_into_shares_gives_the_same_bits(size: tuple[int, int, int]) -> None:
    rows, columns, count = size
    kind = np.dtype(np.float32)
    a, b = matrix((rows, count), "rows", "float32", 0), matrix((count, columns), "columns", "float32", 1)
    alone = seam.product(a, b)
    run = seam._entries[kind].alone
    for by_rows, by_columns in ((1, 1), (2, 1), (1, 3), (3, 2), (8, 8)):
        out = np.full((rows, columns), np.nan, np.float32)
        shares = by_rows * by_columns
        for share in range(shares):
            run(out, a, b, out, 0, 1.0, 1.0, -np.inf, by_rows, 0, 1, shares, share)
        assert np.array_equal(out, alone)


def test_where_operands_lie_in_memory_changes_no_bit() -> None:
    a, b = matrix((37, 90), "rows", "float32", 0), matrix((90, 53), "columns", "float32", 1)
    first = seam.gemm(a, b)
    for shift in range(1, 17):
        moved = [np.empty(x.size + shift, np.float32)[shift:].reshape(x.shape) for x in (a, b)]
        for target, source in zip(moved, (a, b), strict=True):
            target[...] = source
        assert np.array_equal(seam.gemm(moved[0], np.asfortranarray(moved[1])), first)


@pytest.mark.parametrize("size", [(2, 3, 5), (97, 130, 101), (257, 519, 1030)])
def test_nan_and_infinity_stay_in_their_rows_and_columns(size: tuple[int, int, int]) -> None:
    rows, columns, count = size
    for left, right in (("rows", "rows"), ("columns", "rows"), ("rows", "columns")):
        a, b = matrix((rows, count), left, "float32", 0), matrix((count, columns), right, "float32", 1)
        a[1, 3], b[4, 2] = np.nan, np.inf
        out = seam.gemm(a, b)
        expected = np.zeros((rows, columns), bool)
        expected[1] = expected[:, 2] = True
        np.testing.assert_array_equal(~np.isfinite(out), expected)


@pytest.mark.parametrize(
    "lead", [((3,), (3,)), ((2, 1), (3,)), ((4, 5), (4, 5)), ((), (6,)), ((2, 1, 3), (1, 4, 1)), ((0,), (0,)), ((150,), (1,))]
)
def test_stacks_of_matrices_broadcast(lead: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    for rows, columns, count in ((5, 7, 9), (33, 40, 21), (1, 8, 3)):
        for left, right in itertools.product(["rows", "columns", "every other"], repeat=2):
            a = matrix((*lead[0], rows, count), left, "float32", 0)
            b = matrix((*lead[1], count, columns), right, "float32", 1)
            out = agrees(a, b)
            with kernels.serial():
                assert np.array_equal(seam.gemm(a, b), out)


def test_attention_heads_are_read_where_they_lie() -> None:
    heads = matrix((2, 64, 8, 16), "rows", "float32", 0).transpose(0, 2, 1, 3)
    agrees(heads, np.swapaxes(heads, -1, -2))


@pytest.mark.parametrize("size", [(1, 8, 3), (6, 1, 40), (5, 1, 3), (64, 128, 70), (130, 90, 600)])
def test_what_follows_a_product_is_done_in_its_store(size: tuple[int, int, int]) -> None:
    rows, columns, count = size
    for dtype in ("float32", "float64"):
        a, b = matrix((rows, count), "rows", dtype, 0), matrix((count, columns), "columns", dtype, 1)
        whole = matrix((rows, columns), "rows", dtype, 2)
        across, down = matrix((1, columns), "rows", dtype, 3)[0], matrix((rows, 1), "rows", dtype, 4)
        agrees(a, b, bias=across)
        agrees(a, b, bias=down, activation="relu")
        agrees(a, b, bias=across, residual=whole, beta=-1.5, activation="relu")
        agrees(a, b, alpha=0.5)
        agrees(a, b, alpha=-2.0, beta=0.25, residual=whole)
        agrees(a, b, residual=whole.T.copy().T)
        agrees(a, b, residual=down, beta=0.0)
        agrees(a, b, bias=across[:1].reshape(()))


def test_accumulating_in_place() -> None:
    a, b = matrix((40, 30), "rows", "float32", 0), matrix((30, 50), "rows", "float32", 1)
    out = matrix((40, 50), "rows", "float32", 2)
    expected = 0.5 * out.astype(np.float64) + 2.0 * (a.astype(np.float64) @ b)
    assert seam.product(a, b, out, 2.0, 0.5, residual=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_relu_keeps_nan_and_residuals_without_weight_are_not_read() -> None:
    a, b = np.full((2, 3), np.nan, np.float32), np.ones((3, 20), np.float32)
    a[1] = -1
    out = seam.product(a, b, activation="relu")
    assert np.isnan(out[0]).all() and (out[1] == 0).all()
    assert np.isfinite(seam.product(b.T, b, beta=0.0, residual=np.full((20, 20), np.nan, np.float32))).all()


def test_empty_sums_are_zero() -> None:
    for rows, columns, count in ((3, 4, 0), (1, 4, 0), (0, 4, 3), (3, 0, 4), (4, 1, 0)):
        a, b = np.ones((rows, count), np.float32), np.ones((count, columns), np.float32)
        assert np.array_equal(seam.gemm(a, b), np.zeros((rows, columns)))
    bias = np.arange(4, dtype=np.float32)
    assert np.array_equal(
        seam.product(np.ones((3, 0), np.float32), np.ones((0, 4), np.float32), bias=bias), np.tile(bias, (3, 1))
    )


def test_vectors_and_other_dtypes() -> None:
    rng = np.random.default_rng(0)
    for left, right in (((3,), (3,)), ((3,), (3, 4)), ((3,), (2, 3, 4)), ((5, 3), (3,)), ((2, 5, 3), (3,)), ((2, 0, 3), (3,))):
        for dtype in (np.float32, np.float64, np.int64, np.float16):
            a, b = ((4 * rng.standard_normal(s)).astype(dtype) for s in (left, right))
            np.testing.assert_allclose(seam.gemm(a, b), np.matmul(a, b), rtol=2e-2 if dtype == np.float16 else 1e-5, atol=1e-3)


def test_arrays_that_are_not_aligned() -> None:
    raw = np.zeros(4 * 30 + 1, np.uint8)
    a = raw[1:].view(np.float32).reshape(5, 6)
    a[...] = np.random.default_rng(0).standard_normal((5, 6))
    b = matrix((6, 7), "rows", "float32", 1)
    agrees(a, b)
    np.testing.assert_allclose(seam.gemm(a, b), a @ b, rtol=1e-5, atol=1e-6)
