"""vjp, jvp, jacobian, hessian, hvp, vhp against closed forms and against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv.autograd import functional as F

A = np.array([[2.0, -1.0, 0.5], [0.3, 1.5, -2.0]])
X = np.array([0.4, -1.1, 0.7])
Y = np.array([1.3, 0.2])


def t(array: Any) -> tg.Tensor:
    return tg.tensor(np.asarray(array, np.float64))


def linear(x: tg.Tensor) -> tg.Tensor:
    return t(A) @ x


def cubic(x: tg.Tensor) -> tg.Tensor:
    return (x**3).sum() + x[0] * x[1]


CUBIC_HESSIAN = np.diag(6 * X) + np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_jacobian_of_a_linear_map_is_its_matrix() -> None:
    assert np.allclose(F.jacobian(linear, t(X)).numpy(), A)


def test_jacobian_shapes_are_output_then_input_and_nest_as_the_arguments_do() -> None:
    def two(a: tg.Tensor, b: tg.Tensor) -> Any:
        return a.unsqueeze(1) * b, a.sum()

    result = F.jacobian(two, (t(X), t(Y)))
    assert [[j.shape for j in row] for row in result] == [[(3, 2, 3), (3, 2, 2)], [(3,), (2,)]]
    assert np.allclose(result[0][0].numpy(), np.einsum("ik,j->ijk", np.eye(3), Y))
    assert np.allclose(result[0][1].numpy(), np.einsum("i,jk->ijk", X, np.eye(2)))
    assert np.allclose(result[1][0].numpy(), 1) and np.allclose(result[1][1].numpy(), 0)
    assert isinstance(F.jacobian(lambda a: a, (t(X),)), tuple)


def test_hessian_is_exact_symmetric_and_nests() -> None:
    assert np.allclose(F.hessian(cubic, t(X)).numpy(), CUBIC_HESSIAN)
    blocks = F.hessian(lambda a, b: (a.sum() * b).sum() ** 2, (t(X), t(Y)))
    assert [[h.shape for h in row] for row in blocks] == [[(3, 3), (3, 2)], [(2, 3), (2, 2)]]
    assert np.allclose(blocks[0][1].numpy(), blocks[1][0].numpy().T)


def test_products_with_vectors() -> None:
    u, v = np.array([0.5, -2.0]), np.array([1.0, 0.2, -0.7])
    value, product = F.vjp(linear, t(X), t(u))
    assert np.allclose(value.numpy(), A @ X) and np.allclose(product.numpy(), u @ A)
    value, product = F.jvp(linear, t(X), t(v))
    assert np.allclose(value.numpy(), A @ X) and np.allclose(product.numpy(), A @ v)
    for function in (F.hvp, F.vhp):
        value, product = function(cubic, t(X), t(v))
        assert value.item() == pytest.approx(float((X**3).sum() + X[0] * X[1]))
        assert np.allclose(product.numpy(), CUBIC_HESSIAN @ v)


def test_jvp_of_a_nonlinear_function_equals_finite_differences() -> None:
    def f(x: tg.Tensor) -> tg.Tensor:
        return (t(A) @ x.sin()).exp()

    v = np.array([0.3, -0.4, 1.2])
    h = 1e-6
    numeric = (f(t(X + h * v)).numpy() - f(t(X - h * v)).numpy()) / (2 * h)
    assert np.allclose(F.jvp(f, t(X), t(v))[1].numpy(), numeric, rtol=1e-7)


def test_hvp_and_vhp_differ_where_the_second_derivative_is_not_symmetric() -> None:
    class Lopsided(tg.autograd.Function):  # a "gradient" field (x1 * x0, 0) whose Jacobian is not symmetric
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            ctx.save_for_backward(x)
            return x.sum()

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> tg.Tensor:
            (x,) = ctx.saved_tensors
            return g * tg.stack([x[0] * x[1], x[0] * 0])

    x, v = t([2.0, 3.0]), t([1.0, 10.0])
    matrix = np.array([[3.0, 2.0], [0.0, 0.0]])
    assert np.allclose(F.hvp(Lopsided.apply, x, v)[1].numpy(), matrix @ [1.0, 10.0])
    assert np.allclose(F.vhp(Lopsided.apply, x, v)[1].numpy(), [1.0, 10.0] @ matrix)


def test_vectors_may_be_left_out_for_one_element_only() -> None:
    assert np.allclose(F.vjp(cubic, t(X))[1].numpy(), 3 * X**2 + np.array([X[1], X[0], 0]))
    with pytest.raises(RuntimeError, match="`v` may be left out"):
        F.vjp(linear, t(X))
    with pytest.raises(ValueError, match="expected those of the input"):
        F.jvp(linear, t(X), t(Y))


def test_unused_inputs_give_zeros_or_raise_when_strict() -> None:
    f = lambda a, b: a * 2  # noqa: E731
    assert np.allclose(F.jacobian(f, (t(X), t(Y)))[1].numpy(), 0)
    assert np.allclose(F.vjp(f, (t(X), t(Y)), t(X))[1][1].numpy(), 0)
    with pytest.raises(RuntimeError, match="input 1"):
        F.jacobian(f, (t(X), t(Y)), strict=True)
    assert np.allclose(F.jacobian(lambda a: t(Y), t(X)).numpy(), 0)
    with pytest.raises(RuntimeError, match="does not depend"):
        F.jacobian(lambda a: t(Y), t(X), strict=True)


def test_create_graph_lets_results_be_differentiated() -> None:
    x = t(X).requires_grad_()
    (third,) = tg.autograd.grad(F.hessian(lambda a: (a**3).sum(), x, create_graph=True).sum(), x)
    assert np.allclose(third.numpy(), 6)
    (second,) = tg.autograd.grad(F.jvp(lambda a: a**3, x, t(np.ones(3)), create_graph=True)[1].sum(), x)
    assert np.allclose(second.numpy(), 6 * X)
    assert not F.jacobian(linear, x).requires_grad and not F.vjp(cubic, x)[0].requires_grad


def test_inputs_keep_their_state() -> None:
    x = t(X)
    F.hessian(cubic, x)
    assert not x.requires_grad and x.grad is None
    y = t(X).requires_grad_()
    F.hvp(cubic, y, t(X))
    assert y.grad is None


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"jacobian: expected Tensors for `inputs`"):
        F.jacobian(linear, X)
    with pytest.raises(TypeError, match="only floating tensors"):
        F.vjp(lambda a: a, tg.tensor([1, 2]))
    with pytest.raises(TypeError, match="the result of func"):
        F.jacobian(lambda a: 3.0, t(X))
    with pytest.raises(RuntimeError, match="one tensor of one element"):
        F.hessian(linear, t(X))
    with pytest.raises(ValueError, match="strategy"):
        F.jacobian(linear, t(X), strategy="sideways")


@pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp", "jvp", "hvp", "vhp"])
def test_agrees_with_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")

    def make(lib: Any) -> Callable[..., Any]:
        if name in ("jacobian", "vjp", "jvp"):
            return lambda a, b: ((a * b[0]).exp(), a.sum() * b)
        return lambda a, b: (a * b[0]).exp().sum() * b[1] ** 2

    vectors = {"vjp": (X, Y), "jvp": (X, Y), "hvp": (X, Y), "vhp": (X, Y)}.get(name)
    ours_v = () if vectors is None else (tuple(map(t, vectors)),)
    torch_t = lambda a: torch.tensor(a, dtype=torch.float64)  # noqa: E731
    torch_v = () if vectors is None else (tuple(map(torch_t, vectors)),)
    ours = getattr(F, name)(make(tg), (t(X), t(Y)), *ours_v)
    theirs = getattr(torch.autograd.functional, name)(make(torch), (torch_t(X), torch_t(Y)), *torch_v)

    def compare(a: Any, b: Any) -> None:
        if isinstance(b, tuple):
            assert isinstance(a, tuple) and len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                compare(x, y)
        else:
            assert np.allclose(a.numpy(), b.numpy(), rtol=1e-12)

    compare(ours, theirs)
