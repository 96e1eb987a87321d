"""Views in place, memory given to a tensor, bytes read as another dtype: what changes a tensor without computing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tinygrad_cv as tg


def leaf(shape: tuple[int, ...], seed: int = 0) -> tg.Tensor:
    return tg.tensor(np.random.default_rng(seed).uniform(0.5, 2, shape), requires_grad=True)


FORMS: list[tuple[str, tuple[int, ...], tuple]] = [
    ("squeeze_", (2, 1, 3, 1), ()),
    ("squeeze_", (2, 1, 3, 1), (-1,)),
    ("squeeze_", (2, 1, 3, 1), ((1, 3),)),
    ("squeeze_", (2, 1, 3, 1), (0,)),
    ("unsqueeze_", (2, 3), (-1,)),
    ("unsqueeze_", (2, 3), (1,)),
    ("t_", (2, 3), ()),
    ("t_", (3,), ()),
    ("transpose_", (2, 3, 4), (0, -1)),
    ("swapaxes_", (2, 3, 4), (2, 1)),
    ("swapdims_", (2, 3, 4), (0, 1)),
]


@pytest.mark.parametrize(("name", "shape", "arguments"), FORMS)
def test_a_view_in_place_keeps_memory_history_and_views(name: str, shape: tuple[int, ...], arguments: tuple) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for library in (tg, torch):
        x = leaf(shape) if library is tg else torch.tensor(leaf(shape).detach().numpy(), requires_grad=True)
        y = x * 2
        before, older = y.data_ptr(), y[0:1]
        assert getattr(y, name)(*arguments) is y and y.data_ptr() == before and y.grad_fn is not None and not y.is_leaf
        newer = y[..., 0] if y.ndim else y
        older.mul_(3)  # a view taken before and one taken after, both written
        newer.mul_(newer * 5)
        y.mul_(2)
        weights = np.arange(float(y.numel())).reshape(tuple(y.shape))
        loss = (y * y * library.tensor(weights)).sum() + (older * older).sum() + newer.sum()
        (first,) = library.autograd.grad(loss, [x], create_graph=True)
        (second,) = library.autograd.grad((first * first).sum(), [x])
        found.append([tuple(y.shape), tuple(y.stride()), y.detach().numpy(), first.detach().numpy(), second.numpy()])
    assert found[0][:2] == found[1][:2]
    for mine, theirs in zip(found[0][2:], found[1][2:], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_a_view_in_place_of_a_view_and_of_a_constant() -> None:
    x = leaf((2, 1, 3))
    y = x * 1
    row = y[1]
    row.squeeze_().mul_(10)
    y[0].t_().mul_(2)  # (1, 3) as (3, 1)
    y.sum().backward()
    assert row.shape == (3,) and x.grad.tolist() == [[[2.0] * 3], [[10.0] * 3]]
    constant = tg.zeros(2, 3)
    view = constant[0]
    constant.t_()
    view.add_(1)
    constant[2, 1] = 5.0
    assert constant.tolist() == [[1.0, 0.0], [1.0, 0.0], [1.0, 5.0]] and view.tolist() == [1.0, 1.0, 1.0]
    constant.requires_grad_()
    assert constant.is_leaf and not view.requires_grad
    (constant * 2).sum().backward()
    assert constant.grad.shape == (3, 2)


def test_views_through_several_changes_of_their_base() -> None:
    x = leaf((2, 3, 1))
    y = x * 1
    first = y[:, 1]
    y.squeeze_(2)
    second = y[:, 2]
    y.t_().unsqueeze_(0)
    first.fill_(1.0)
    second.mul_(3)
    y[0, 0].mul_(5)
    assert y.shape == (1, 3, 2)
    y.sum().backward()
    assert x.grad.squeeze(2).tolist() == [[5.0, 0.0, 3.0]] * 2


def test_what_was_saved_and_retained_survives_a_change_of_shape() -> None:
    x = leaf((2, 3))
    y = x.exp()  # saves its result
    y.retain_grad()
    y.t_()
    (y * tg.arange(6.0, dtype=tg.float64).reshape(3, 2)).sum().backward()
    assert y.grad.shape == (3, 2)
    np.testing.assert_allclose(x.grad.numpy(), np.exp(x.detach().numpy()) * np.arange(6.0).reshape(3, 2).T)


def test_a_leaf_that_requires_grad_keeps_its_shape_while_recording() -> None:
    x = leaf((2, 1))
    with pytest.raises(RuntimeError, match=r"squeeze_: a leaf tensor that requires grad .* no_grad\(\)"):
        x.squeeze_()
    with pytest.raises(RuntimeError, match="t_: a view of a leaf"):
        x[0:1].t_()
    assert x.shape == (2, 1)
    y = x * x
    with tg.no_grad():
        x.t_()
    assert x.shape == (1, 2) and x.is_leaf and x.requires_grad
    with pytest.raises(RuntimeError, match="was changed by an in-place write"):
        y.sum().backward()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [[3.0, 3.0]]
    with tg.no_grad(), pytest.raises(RuntimeError, match=r"t_: this leaf has a \.grad of shape \(1, 2\)"):
        x.t_()
    h = x * 1
    with tg.no_grad():
        h.t_()
    h.sum().backward()
    assert x.grad.tolist() == [[4.0, 4.0]]


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: x.t_(), ValueError, "t: expected at most two axes"),
        (lambda x: x.transpose_(0, 3), IndexError, "transpose: dim1 3 is out of range"),
        (lambda x: x.unsqueeze_(5), IndexError, "unsqueeze: dim 5"),
        (lambda x: x.squeeze_((0, 0)), ValueError, "squeeze: dim"),
    ],
)
def test_wrong_axes_change_nothing(call: Callable[[tg.Tensor], object], kind: type[Exception], words: str) -> None:
    x = tg.zeros(2, 3, 4)
    with pytest.raises(kind, match=words):
        call(x)
    assert x.shape == (2, 3, 4)


# Memory ---------------------------------------------------------------------------------------------------------------


def test_data_gives_a_leaf_other_memory() -> None:
    x = leaf((2,))
    x.data = tg.ones(3, dtype=tg.float32)
    (x * 2).sum().backward()
    assert x.shape == (3,) and x.dtype == tg.float32 and x.grad.tolist() == [2.0] * 3 and x.grad.dtype == tg.float32
    with pytest.raises(RuntimeError, match=r"data: this tensor has a \.grad of shape \(3,\)"):
        x.data = tg.ones(4)
    x.data = tg.zeros(3)  # the gradient still fits
    with pytest.raises(TypeError, match=r"data: .*requires grad, which int64"):
        x.data = tg.ones(3, dtype=tg.int64)
    with pytest.raises(TypeError, match="data: expected a Tensor, got list"):
        x.data = [1.0, 2.0, 3.0]
    y = x * 2
    with pytest.raises(ValueError, match=r"data: this tensor was computed with shape \(3,\)"):
        y.data = tg.ones(5)
    y.data = tg.full((3,), 7.0)
    assert y.tolist() == [7.0] * 3 and y.grad_fn is not None
    counts = tg.zeros(2, dtype=tg.int64)
    counts.data = tg.ones(3)
    assert counts.tolist() == [1.0, 1.0, 1.0]


def test_views_stay_with_the_memory_they_were_taken_of() -> None:
    x = tg.zeros(3)
    view = x[:2]
    x.data = tg.ones(3)
    view.add_(5)
    x.add_(1)
    assert view.tolist() == [5.0, 5.0] and x.tolist() == [2.0, 2.0, 2.0]
    shared = tg.zeros(3)
    x.data = shared
    x.add_(4)
    assert shared.tolist() == [4.0, 4.0, 4.0]


def test_an_optimizer_notices_a_parameter_of_another_shape() -> None:
    p = leaf((2,))
    optimizer = tg.optim.SGD([p], lr=0.1, momentum=0.9)
    (p * 1).sum().backward()
    optimizer.step()
    p.grad = None
    p.data = tg.ones(20000, dtype=tg.float64)
    (p * 1).sum().backward()
    with pytest.raises(RuntimeError, match=r"step: the state .* of shape \(20000,\) has shape \(2,\)"):
        optimizer.step()


def test_grad_takes_none_or_a_tensor_that_fits() -> None:
    x = leaf((2,))
    x.grad = tg.ones(2, dtype=tg.float64)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    x.grad = None
    for value, kind, words in (
        (tg.ones(3, dtype=tg.float64), ValueError, r"grad: expected the tensor's shape \(2,\), got \(3,\)"),
        (tg.ones(2), TypeError, "grad: expected the tensor's dtype float64, got float32"),
        (1.0, TypeError, "grad: expected a Tensor or None, got float"),
        (np.ones(2), TypeError, "grad: expected a Tensor or None, got ndarray"),
        (x, ValueError, "its own gradient"),
    ):
        with pytest.raises(kind, match=words):
            x.grad = value
    assert x.grad is None


def test_is_inference() -> None:
    with tg.inference_mode():
        x = tg.ones(2)
        y = x + 1
    assert x.is_inference() and y.is_inference() and y.detach().is_inference() and not tg.ones(1).is_inference()
    assert not y.clone().is_inference()


# Bytes ----------------------------------------------------------------------------------------------------------------

BYTES = np.random.default_rng(3).integers(0, 200, (4, 16)).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, lib: x.view(lib.int32),
        lambda x, lib: x.view(lib.float32).view(lib.int32),
        lambda x, lib: x.view(dtype=lib.float64).view(lib.int8),
        lambda x, lib: x[:, 8:].view(lib.int64),
        lambda x, lib: x.view(lib.int16)[1:, ::2].view(lib.float16),
        lambda x, lib: x.t().view(lib.int8),
        lambda x, lib: x.view(lib.int32).t()[0:1].t().view(lib.uint8),
    ],
)
def test_view_of_another_dtype_reads_the_same_bytes(change: Callable) -> None:
    torch = pytest.importorskip("torch")
    mine, theirs = tg.from_numpy(BYTES.copy()), torch.from_numpy(BYTES.copy())
    ours, expected = change(mine, tg), change(theirs, torch)
    assert ours.numpy().dtype == expected.numpy().dtype and ours.stride() == tuple(expected.stride())
    assert ours.numpy().tobytes() == expected.numpy().tobytes()
    assert ours.data_ptr() - mine.data_ptr() == expected.data_ptr() - theirs.data_ptr()


def test_view_of_another_dtype_has_no_history_and_writes_through() -> None:
    x = tg.ones(2, 4, requires_grad=True)
    for dtype in (tg.int32, tg.float64, tg.float32):
        seen = x.view(dtype)
        assert not seen.requires_grad and seen.is_leaf and seen.data_ptr() == x.data_ptr()
    y = x * 1
    product = y * y
    with pytest.raises(RuntimeError, match="saved by mul"):
        y.view(tg.int32).zero_()
    product.sum().backward()
    y.view(tg.int32).zero_()
    assert y.tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda: tg.ones(2, 3).view(tg.float64),
            RuntimeError,
            r"view: float32 of shape \(2, 3\).*multiple of 2.*\.to\(float64\)",
        ),
        (lambda: tg.ones(()).view(tg.uint8), RuntimeError, "0-d tensor has no last axis"),
        (lambda: tg.ones(2, 4).t().view(tg.uint8), RuntimeError, r"stride 4, expected 1; use \.contiguous"),
        (lambda: tg.ones(3, 5)[:, 1:].view(tg.int64), RuntimeError, "rows must start at multiples of 2"),
        (lambda: tg.ones(2).view(tg.int32, dtype=tg.int32), TypeError, "two dtypes"),
        (lambda: tg.ones(2).view(2, dtype=tg.int32), TypeError, "a shape or a dtype"),
        (lambda: tg.ones(2).view("complex64"), TypeError, "not supported"),
    ],
)
def test_view_refuses_a_dtype_that_does_not_fit(call: Callable, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()
