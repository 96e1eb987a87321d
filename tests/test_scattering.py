"""scatter with reduce, scatter_reduce, index_put, and `where` with one argument, beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tinygrad_cv as tg

REDUCTIONS = ["sum", "prod", "mean", "amax", "amin"]


def operands(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, positions with repeats, and source; even seeds give values with ties and zeros."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 3, (5, 4))
    if seed % 2:
        return rng.normal(size=(3, 4)), index, rng.normal(size=(5, 4))
    values = np.array([0.0, 1.0, 2.0, -1.5])
    return rng.choice(values, (3, 4)), index, rng.choice(values, (5, 4))


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_scatter_reduce_and_its_gradients_are_pytorchs(reduce: str, include_self: bool) -> None:
    torch = pytest.importorskip("torch")
    for seed in range(8):
        x, index, source = operands(seed)
        found = []
        for library in (tg, torch):
            a, b = (library.tensor(v.copy()).requires_grad_() for v in (x, source))
            out = a.scatter_reduce(0, library.tensor(index), b, reduce, include_self=include_self)
            written = (a * 1).scatter_reduce_(0, library.tensor(index), b, reduce=reduce, include_self=include_self)
            grads = library.autograd.grad(out, [a, b], library.tensor(np.arange(1.0, 13.0).reshape(3, 4)))
            found.append([v.detach().numpy() for v in (out, written, *grads)])
        if reduce.startswith("am") and not include_self and seed % 2 == 0:
            found = [f[:2] for f in found]  # PyTorch gives a share to the element of input that was left out; see below
        for mine, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, err_msg=f"{reduce}, seed {seed}")


def test_an_element_left_out_of_a_maximum_takes_no_share_of_the_gradient() -> None:
    x, source = (tg.tensor(v, requires_grad=True) for v in ([2.0, 1.0], [2.0, 2.0]))
    x.scatter_reduce(0, tg.tensor([0, 0]), source, "amax", include_self=False).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0] and source.grad.tolist() == [0.5, 0.5]
    x.grad = source.grad = None
    x.scatter_reduce(0, tg.tensor([0, 0]), source, "amax").sum().backward()
    assert np.allclose(x.grad.tolist(), [1 / 3, 1.0]) and np.allclose(source.grad.tolist(), [1 / 3, 1 / 3])


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean"])
def test_second_derivatives_of_scatter_reduce_where_elements_are_zero(reduce: str) -> None:
    x, index, source = operands(2)
    leaves = [tg.tensor(v, requires_grad=True) for v in (x, source)]
    for include_self in (True, False):
        tg.autograd.gradgradcheck(
            lambda a, b, own=include_self: a.scatter_reduce(0, tg.tensor(index), b, reduce, include_self=own), leaves
        )


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "bool"])
def test_scatter_reduce_keeps_the_dtype(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x, source, index = rng.integers(0, 4, 6).astype(dtype), rng.integers(0, 4, 9).astype(dtype), rng.integers(0, 6, 9)
    for reduce in REDUCTIONS:
        if (dtype, reduce) == ("bool", "mean"):
            continue
        expected = torch.tensor(x).scatter_reduce(0, torch.tensor(index), torch.tensor(source), reduce).numpy()
        got = tg.tensor(x).scatter_reduce(0, tg.tensor(index), tg.tensor(source), reduce).numpy()
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=reduce)


def test_scatter_by_keyword_and_with_reduce() -> None:
    index = tg.tensor([[0, 0], [2, 1]])
    x = tg.full((2, 3), 2.0)
    assert x.scatter(1, index, value=5.0).tolist() == [[5.0, 2.0, 2.0], [2.0, 5.0, 5.0]]
    assert x.scatter(1, index, 3.0, reduce="multiply").tolist() == [[18.0, 2.0, 2.0], [2.0, 6.0, 6.0]]
    assert x.scatter(dim=1, index=index, src=tg.ones(2, 2), reduce="add").tolist() == [[4.0, 2.0, 2.0], [2.0, 3.0, 3.0]]
    assert x.scatter_(1, index, value=0.0) is x and x.tolist() == [[0.0, 2.0, 2.0], [2.0, 0.0, 0.0]]
    x.scatter_(1, index, tg.ones(2, 2), reduce="add")
    assert x.tolist() == [[2.0, 2.0, 2.0], [2.0, 1.0, 1.0]]


@pytest.mark.parametrize("accumulate", [False, True])
def test_index_put(accumulate: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 4, 2))
    cases = [
        ((np.array([2, 0]),), (2, 4, 2)),
        ((np.array([[2], [0]]), np.array([1, -1, 0])), (2, 3, 1)),
        ((rng.integers(0, 2, (3, 4)).astype(bool),), (2,)),
        ((np.array([0, 1]),), ()),
    ]
    for indices, shape in cases:
        values, found = rng.normal(size=shape), []
        for library in (tg, torch):
            a, v = (library.tensor(t.copy()).requires_grad_() for t in (x, values))
            positions = tuple(library.tensor(i) for i in indices)
            out = a.index_put(positions, v, accumulate)
            b = (a * 1).index_put_(positions, v, accumulate=accumulate)
            grads = library.autograd.grad((out * out * b).sum(), [a, v])
            found.append([t.detach().numpy() for t in (out, b, *grads)])
        for mine, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    twice = tg.zeros(3).index_put((tg.tensor([1, 1]),), tg.tensor([2.0, 3.0]), accumulate)
    assert twice.tolist() == [0.0, 5.0 if accumulate else 3.0, 0.0]


def test_index_put_remembers_the_positions_of_its_call() -> None:
    x, where = tg.zeros(3, requires_grad=True), tg.tensor([0])
    out = x.index_put((where,), tg.ones(1))
    where.fill_(2)
    out.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0]


def test_where_with_one_argument_gives_positions() -> None:
    rows, columns = tg.where(tg.tensor([[True, False], [True, True]]))
    assert rows.tolist() == [0, 1, 1] and columns.tolist() == [0, 0, 1]
    assert [p.tolist() for p in tg.where(tg.tensor([0.0, 2.0]))] == [[1]]


def test_clip_is_clamp() -> None:
    x = tg.tensor([-2.0, 0.5, 2.0], requires_grad=True)
    x.clip(-1, 1).sum().backward()
    assert tg.clip(x, max=1.0).tolist() == [-2.0, 0.5, 1.0] and x.grad.tolist() == [0.0, 1.0, 0.0]
    y = tg.tensor([-2.0, 0.5])
    assert y.clip_(min=0) is y and y.tolist() == [0.0, 0.5]


X, INDEX = tg.zeros(2, 3), tg.tensor([[0], [1]])


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: X.scatter(1, INDEX), TypeError, "scatter: give either src or value, got neither"),
        (lambda: X.scatter(1, INDEX, 1.0, value=2.0), TypeError, "scatter: .*both"),
        (lambda: X.scatter(1, INDEX, 1.0, reduce="sum"), ValueError, "scatter: reduce must be 'add' or 'multiply'"),
        (lambda: X.scatter_reduce(1, INDEX, 2.0, "sum"), TypeError, "scatter_reduce: expected a Tensor for `src`, got float"),
        (lambda: X.scatter_reduce(1, INDEX, tg.ones(2, 1), "max"), ValueError, "scatter_reduce: reduce must be"),
        (
            lambda: X.scatter_reduce(1, INDEX, tg.ones(2, 1, dtype=tg.float64), "sum"),
            TypeError,
            "scatter_reduce: `src` has dtype",
        ),
        (lambda: X.scatter_reduce(1, INDEX + 3, tg.ones(2, 1), "sum"), IndexError, "scatter_reduce: `index` holds 3"),
        (lambda: X.bool().scatter_reduce(1, INDEX, tg.ones(2, 1).bool(), "mean"), TypeError, "booleans have no mean"),
        (lambda: X.index_put(tg.tensor([0]), tg.tensor(1.0)), TypeError, "index_put: expected `indices` as a tuple"),
        (lambda: X.index_put((tg.tensor([0]),), 1.0), TypeError, "index_put: expected a Tensor for `values`, got float"),
        (lambda: X.index_put((tg.tensor([0]),), tg.tensor(1)), TypeError, "index_put: `values` has dtype int64"),
        (lambda: X.index_put((tg.tensor([7]),), tg.tensor(1.0)), IndexError, "index_put: index 7 is out of range"),
        (lambda: X.index_put((tg.tensor([0]),), tg.ones(5)), ValueError, "index_put: a value of shape"),
        (lambda: tg.where(X > 0, X), TypeError, "where: give both input and other, or neither"),
        (lambda: X.clip(), ValueError, "clamp: at least one of min and max"),
        (lambda: tg.add(X, X, out=X), TypeError, r"add: .*no out=; write y = add\(\.\.\.\), or y\.copy_"),
        (lambda: tg.sum(X, out=X), TypeError, "sum: .*no out="),
    ],
)
def test_errors(call: Callable[[], object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.parametrize("name", ["max", "min", "amax", "amin", "argmax", "argmin", "aminmax"])
def test_an_extremum_of_nothing(name: str) -> None:
    function = getattr(tg, name)
    with pytest.raises(ValueError, match=rf"{name}: a tensor of shape \(0,\) is empty"):
        function(tg.zeros(0))
    with pytest.raises(ValueError, match=rf"{name}: a tensor of shape \(2, 0\) is empty"):
        function(tg.zeros(2, 0))
    with pytest.raises(ValueError, match=rf"{name}: axis 0 of a tensor of shape \(0, 3\) is empty .* another dim"):
        function(tg.zeros(0, 3), dim=0)
    found = function(tg.zeros(0, 3), dim=1)
    assert (found[0] if isinstance(found, tuple) else found).shape == (0,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "dim", "count"),
    [
        ((101, 103), 1, 97),
        ((101, 103), 0, 97),
        ((9, 211, 7), 1, 300),
        ((30_001,), 0, 20_003),
        ((3, 5, 1000), 2, 700),
        ((64, 300), 0, 5),
    ],
)
def test_kernels_move_what_numpy_moves(shape: tuple[int, ...], dim: int, count: int, dtype) -> None:
    """Larger arrays than the property tests have: equal to NumPy bit by bit, at any number of threads, whatever the layout."""
    rng = np.random.default_rng(5)
    full = (*shape[:dim], count, *shape[dim + 1 :])
    x, source = rng.standard_normal(shape).astype(dtype), rng.standard_normal(full).astype(dtype)
    grid, line = rng.integers(0, shape[dim], full), rng.integers(0, shape[dim], count)
    places = list(np.ogrid[tuple(slice(n) for n in full)])
    places[dim] = grid
    scattered, added, less = x.copy(), x.copy(), x.copy()
    np.add.at(scattered, tuple(places), source)
    np.add.at(added, (slice(None),) * dim + (line,), source)
    np.add.at(less, (slice(None),) * dim + (line,), source * dtype(-0.3))
    cases = [
        (lambda a, s, g, i: a.gather(dim, g), np.take_along_axis(x, grid, dim)),
        (lambda a, s, g, i: a.index_select(dim, i), np.take(x, line, dim)),
        (lambda a, s, g, i: a.scatter_add(dim, g, s), scattered),
        (lambda a, s, g, i: a.index_add(dim, i, s), added),
        (lambda a, s, g, i: a.index_add(dim, i, s, alpha=-0.3), less),
        (lambda a, s, g, i: a.clone().scatter_add_(dim, g, s), scattered),
    ]
    threads = tg.get_num_threads()
    try:
        for number in (1, threads):
            tg.set_num_threads(number)
            for turn in (lambda a: a, lambda a: np.ascontiguousarray(a.T).T, lambda a: np.repeat(a, 2, -1)[..., ::2]):
                tensors = [tg.from_numpy(turn(a)) for a in (x, source, grid, line)]
                for i, (run, expected) in enumerate(cases):
                    assert np.array_equal(run(*tensors).numpy(), expected), (i, number)
            narrow = tg.from_numpy(grid.astype(np.int32))
            assert np.array_equal(tg.from_numpy(x).gather(dim, narrow).numpy(), cases[0][1])
    finally:
        tg.set_num_threads(threads)


@pytest.mark.parametrize("wrong", [-1, 200, 2**62, -(2**63)])
def test_positions_out_of_range_are_refused_before_a_kernel_reads_them(wrong: int) -> None:
    x, grid, line = tg.zeros(200, 50), tg.zeros(200, 50, dtype=tg.int64), tg.zeros(300, dtype=tg.int64)
    grid[199, 49], line[299] = wrong, wrong
    source = tg.ones(300, 50)
    for run in (
        lambda: x.gather(0, grid),
        lambda: x.index_select(0, line),
        lambda: x.scatter_add(0, grid, x),
        lambda: x.index_add(0, line, source),
        lambda: tg.nn.functional.embedding(line, x),
    ):
        with pytest.raises(IndexError, match="out of range"):
            run()


def test_embedding_is_the_same_at_any_number_of_threads() -> None:
    rng = np.random.default_rng(6)
    table, index = rng.standard_normal((997, 33)).astype(np.float32), rng.integers(0, 997, (41, 53))
    upstream = rng.standard_normal((41, 53, 33)).astype(np.float32)
    expected = np.zeros_like(table)
    np.add.at(expected, index, upstream)
    threads = tg.get_num_threads()
    try:
        for number in (1, threads):
            tg.set_num_threads(number)
            weight = tg.from_numpy(table.copy()).requires_grad_()
            out = tg.nn.functional.embedding(tg.from_numpy(index), weight)
            assert np.array_equal(out.detach().numpy(), table[index])
            out.backward(tg.from_numpy(upstream))
            assert np.array_equal(weight.grad.numpy(), expected)
    finally:
        tg.set_num_threads(threads)
