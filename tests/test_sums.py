"""Sums of float32 keep an error bound that does not grow with the size, along any axes and strides."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import kernels

U = 2.0**-24
BOUND = 131  # in units of U sum |x|: (1024 / 8 + 3) for blocks of rows, less everywhere else
LAYOUTS = {
    "as made": lambda x: x,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "every other": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: x[::-1],
}
SHAPES = [
    ((400_000,), None),
    ((40_000,), 0),
    ((9_000, 3), 0),
    ((9_000, 40), 0),
    ((40, 9_000), 1),
    ((40, 9_000), None),
    ((300, 7, 60), (0, 2)),
    ((3_000, 5, 4), (0, 2)),
    ((70, 80, 90), 1),
    ((2, 20_000, 2), 1),
    ((6_000, 50), (0, 1)),
    ((5, 900, 1100), 1),
    ((2, 30, 9, 40), (1, 2)),
]


def kinds(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Numbers that are hard to add: alike and positive, so that errors add up; nearly cancelling; of all sizes."""
    rng = np.random.default_rng(0)
    return {
        "alike": np.full(shape, 1 + 2.0**-20, np.float32) + rng.integers(0, 2, shape).astype(np.float32) * np.float32(2.0**-20),
        "cancelling": rng.standard_normal(shape).astype(np.float32),
        "of all sizes": (10 ** rng.uniform(-8, 8, shape)).astype(np.float32),
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_sums_and_means_keep_their_bound(shape: tuple[int, ...], dim, layout: str) -> None:
    if not kernels.enabled():
        pytest.skip("the bound is that of the kernels")
    for name, made in kinds(shape).items():
        x = LAYOUTS[layout](made)
        exact, size = x.sum(dim, dtype=np.longdouble), np.abs(x).sum(dim, dtype=np.longdouble)
        bound = U * (BOUND * size + np.abs(exact))
        count = x.size // np.size(exact)
        assert (np.abs(tg.from_numpy(x).sum(dim).numpy() - exact) <= bound).all(), name
        assert (np.abs(tg.from_numpy(x).mean(dim).numpy() - exact / count) <= (bound + U * np.abs(exact)) / count).all(), name


def test_what_numpy_adds_in_turn() -> None:
    from tinygrad_cv.ops.bounded_sums import bounded_sum, terms_in_turn

    x = np.ones((5, 7, 3), np.float32)
    assert [terms_in_turn(x, axes) for axes in ((0,), (1,), (2,), (0, 2), (0, 1, 2), (0, 1))] == [5, 7, 1, 5, 35, 35]
    assert terms_in_turn(x.T, (0,)) == 1 and terms_in_turn(x[:, :, :1], (0, 1)) == 5 and terms_in_turn(np.float32(3), ()) == 1
    tall = np.full((2**25, 1), 1, np.float32)  # one after the other, float32 stays at 2^24
    assert bounded_sum(np.broadcast_to(tall, (2**25, 2)), (0,)).tolist() == [2**25, 2**25]
    assert bounded_sum(tall, None, True).shape == (1, 1)
    assert bounded_sum(np.ones((100, 2), np.int64), (0,)).dtype == np.int64


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_variances_and_norms_keep_their_bounds(shape: tuple[int, ...], dim, layout: str) -> None:
    for name, made in kinds(shape).items():
        x = LAYOUTS[layout](made)
        wide = x.astype(np.longdouble)
        average, exact = wide.mean(dim), wide.var(dim, ddof=1)
        count = x.size // np.size(exact)
        size = np.abs(wide).mean(dim)
        variance, mean = (t.numpy() for t in tg.var_mean(tg.from_numpy(x), dim))
        bound = 102 * U * exact + count / (count - 1) * (99 * U * size) ** 2
        assert (np.abs(mean - average) <= 98 * U * size).all(), name
        assert (np.abs(variance - exact) <= bound).all(), name
        assert (np.abs(tg.std(tg.from_numpy(x), dim).numpy() ** 2.0 - exact) <= bound + 4 * U * exact).all(), name
        for order, allowed in ((1, 97), (2, 51)):
            length = (np.abs(wide) ** order).sum(dim) ** (np.longdouble(1) / order)
            norm = tg.linalg.vector_norm(tg.from_numpy(x), order, dim).numpy()
            assert (np.abs(norm - length) <= allowed * U * length).all(), (name, order)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_sums_without_kernels_keep_a_bound_too(shape: tuple[int, ...], dim, layout: str) -> None:
    dims = dim if isinstance(dim, tuple) else None if dim is None else (dim,)
    for name, made in kinds(shape).items():
        x = LAYOUTS[layout](made)
        exact, size = x.sum(dim, dtype=np.longdouble), np.abs(x).sum(dim, dtype=np.longdouble)
        bound = U * (96 * size + np.abs(exact))
        assert (np.abs(tg.ops.get("sum").reference(x, dims) - exact) <= bound).all(), name
        kept = tuple([1 if dims is None or i in dims else n for i, n in enumerate(shape)])
        assert (np.abs(tg.ops.get("sum_to_size").reference(x, kept).reshape(np.shape(exact)) - exact) <= bound).all(), name


def test_halves_are_summed_with_the_same_bound() -> None:
    x = np.full((102_400, 2), 0.25, np.float16)
    assert tg.from_numpy(x).sum(0).tolist() == [25_600, 25_600]  # in float16 itself the sum stays at 512
    assert tg.ops.get("mean").reference(x, (0,)).tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("shape", "dim"), [((4099, 37), 0), ((3, 1027, 1100), 1), ((40, 300, 17), 1), ((2, 2, 70_001), 1), ((70, 1500), 0)]
)
def test_sums_down_columns_are_the_same_at_any_number_of_threads(shape: tuple[int, ...], dim: int) -> None:
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    exact, bound = x.sum(dim, dtype=np.float64), 8 * U * np.abs(x).sum(dim, dtype=np.float64)
    threads = tg.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            tg.set_num_threads(min(count, threads))
            results.append(tg.from_numpy(x).sum(dim).numpy())
            assert (np.abs(results[-1] - exact) <= bound).all()
            assert np.array_equal(results[-1], results[0])
        shifted = np.empty(x.size + 1, np.float32)[1:].reshape(shape)  # another alignment
        shifted[...] = x
        assert np.array_equal(tg.from_numpy(shifted).sum(dim).numpy(), results[0])
    finally:
        tg.set_num_threads(threads)
