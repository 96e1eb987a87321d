"""tg.autograd.Function: forward and backward of your own."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv.autograd import Function, gradcheck, gradgradcheck
from tinygrad_cv.autograd.function import once_differentiable


class Cube(Function):
    @staticmethod
    def forward(ctx: Any, x: tg.Tensor, scale: float = 1.0) -> tg.Tensor:
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x * x * x * scale

    @staticmethod
    def backward(ctx: Any, grad_output: tg.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * x * x * ctx.scale * grad_output, None


def leaf(*values: float) -> tg.Tensor:
    return tg.tensor(np.array(values), requires_grad=True)


def test_value_gradient_and_second_derivative() -> None:
    x = leaf(1.0, -2.0)
    y = Cube.apply(x, 2.0)
    assert y.tolist() == [2.0, -16.0] and y.grad_fn.name() == "Cube"
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 24.0]
    assert gradcheck(Cube.apply, (x, 2.0)) and gradgradcheck(Cube.apply, (x, 2.0))


def test_outputs_may_be_saved_and_differentiate_twice() -> None:
    class Exp(Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            out = x.exp()
            ctx.save_for_backward(out)
            return out

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> tg.Tensor:
            return g * ctx.saved_tensors[0]

    assert gradcheck(Exp.apply, leaf(0.3, -1.0)) and gradgradcheck(Exp.apply, leaf(0.3, -1.0))
    assert gradgradcheck(lambda x: Exp.apply(x * 2) ** 2, leaf(0.3, -1.0)), "also away from a leaf"


def test_setup_context_form() -> None:
    class Scale(Function):
        @staticmethod
        def forward(x: tg.Tensor, factor: float) -> tg.Tensor:
            return x * factor

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tg.Tensor) -> None:
            ctx.factor = inputs[1]

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> Any:
            return g * ctx.factor, None

    assert gradcheck(Scale.apply, (leaf(1.0, 2.0), 3.0))


def test_needs_input_grad_and_several_inputs_and_outputs() -> None:
    seen: list[tuple[bool, ...]] = []

    class Both(Function):
        @staticmethod
        def forward(ctx: Any, a: tg.Tensor, b: tg.Tensor, power: int) -> Any:
            assert ctx.needs_input_grad == (True, False, False)
            ctx.save_for_backward(a, b)
            return a * b, a + b

        @staticmethod
        def backward(ctx: Any, g0: tg.Tensor, g1: tg.Tensor) -> Any:
            seen.append(ctx.needs_input_grad)
            _, b = ctx.saved_tensors
            return g0 * b + g1, None, None

    a, b = leaf(2.0, 3.0), tg.tensor([5.0, 7.0], dtype=tg.float64)
    product, total = Both.apply(a, b, 2)
    (product.sum() + 2 * total.sum()).backward()
    assert a.grad.tolist() == [7.0, 9.0] and b.grad is None and seen == [(True, False, False)]


def test_grads_are_materialized_unless_told_otherwise() -> None:
    received: list[Any] = []

    class Two(Function):
        materialize = True

        @classmethod
        def run(cls, x: tg.Tensor, materialize: bool) -> Any:
            return cls.apply(x, materialize)

        @staticmethod
        def forward(ctx: Any, x: tg.Tensor, materialize: bool) -> Any:
            ctx.set_materialize_grads(materialize)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx: Any, a: Any, b: Any) -> Any:
            received.append((a, b))
            return a, None

    Two.run(leaf(1.0, 2.0), True)[0].sum().backward()
    Two.run(leaf(1.0, 2.0), False)[0].sum().backward()
    assert received[0][1].tolist() == [0.0, 0.0] and received[1][1] is None


def test_outputs_marked_non_differentiable() -> None:
    class Sorted(Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> Any:
            order = tg.from_numpy(np.argsort(x.detach().numpy()))
            rank = order.double()
            ctx.mark_non_differentiable(order, rank)
            ctx.save_for_backward(order)
            return x[order], order, rank

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor, *_: Any) -> tg.Tensor:
            (order,) = ctx.saved_tensors
            return g[tg.from_numpy(np.argsort(order.numpy()))]

    x = leaf(3.0, 1.0, 2.0)
    values, order, rank = Sorted.apply(x)
    assert values.requires_grad and not order.requires_grad and not rank.requires_grad and rank.grad_fn is None
    (values * tg.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [100.0, 1.0, 10.0]


def test_an_input_returned_as_it_is() -> None:
    class Reverse(Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            return x

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> tg.Tensor:
            return -g

    x = leaf(1.0, 2.0)
    y = Reverse.apply(x)
    assert y is not x and x.is_leaf and y.grad_fn is not None
    y.sum().backward()
    assert x.grad.tolist() == [-1.0, -1.0]
    out = Reverse.apply(x.view(2, 1))
    out.sum().backward()
    assert x.grad.tolist() == [-2.0, -2.0]


def test_in_place_forward_marks_its_input_dirty() -> None:
    class AddOne(Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            x += 1
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> tg.Tensor:
            return g * 5

    x = leaf(1.0)
    y = x * 1
    assert AddOne.apply(y) is y and y.tolist() == [2.0]
    y.backward()
    assert x.grad.tolist() == [5.0]
    with pytest.raises(RuntimeError, match="AddOne: a leaf"):
        AddOne.apply(leaf(1.0))


@pytest.mark.parametrize(("returned", "message"), [
    (lambda g: (g,), r"Pair: backward must return one gradient .* 2 arguments, got 1"),
    (lambda g: (g, g, g), r"Pair: backward must return .* got 3"),
    (lambda g: (g[:1], g), r"Pair .*: .*`a` a Tensor of shape \(2,\), float64; got shape \(1,\), float64"),
    (lambda g: (g, g.float()), r"Pair .*`b` a Tensor of shape \(2,\), float64; got shape \(2,\), float32"),
    (lambda g: (g, 3.0), r"Pair .*got a float"),
])  # fmt: skip
def test_wrong_gradients_raise_by_name(returned: Any, message: str) -> None:
    class Pair(Function):
        @staticmethod
        def forward(ctx: Any, a: tg.Tensor, b: tg.Tensor) -> tg.Tensor:
            return a + b

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> Any:
            return returned(g)

    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with pytest.raises(RuntimeError, match=message):
        Pair.apply(a, b).sum().backward()
    assert a.grad is None and b.grad is None


def test_other_errors() -> None:
    class NoTensor(Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> Any:
            return 3.0

    with pytest.raises(TypeError, match="NoTensor: forward must return"):
        NoTensor.apply(leaf(1.0))
    with pytest.raises(TypeError, match="apply"):
        Cube()

    class GradientForANumber(Cube):
        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> Any:
            return g, g

    with pytest.raises(RuntimeError, match=r"GradientForANumber: .*argument 1 of forward, which was no Tensor"):
        GradientForANumber.apply(leaf(1.0), 2.0).backward()

    class SavesAnArray(Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> Any:
            ctx.save_for_backward(x.numpy())

    with pytest.raises(TypeError, match="expected Tensors or None, got ndarray"):
        SavesAnArray.apply(tg.ones(1))


def test_an_error_in_backward_keeps_its_type_and_changes_nothing() -> None:
    class Broken(Cube):
        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> Any:
            raise KeyError("mine")

    x = leaf(1.0)
    y = Broken.apply(x)
    with pytest.raises(KeyError, match="mine"):
        (y + x).sum().backward()
    assert x.grad is None and tg.is_grad_enabled()


def test_saved_tensors_are_protected_and_freed() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    out = Cube.apply(y)
    with pytest.raises(RuntimeError, match="saved by Cube"):
        y.mul_(2)
    out.sum().backward(retain_graph=True)
    out.sum().backward()
    assert x.grad.tolist() == [6.0, 24.0]
    with pytest.raises(RuntimeError, match="freed"):
        out.sum().backward()


def test_intermediates_may_be_saved_and_die_with_the_backward() -> None:
    class Square(Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            doubled = x * 2
            ctx.save_for_backward(doubled, None)
            born.append(weakref.ref(doubled))
            return x * x

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> tg.Tensor:
            doubled, nothing = ctx.saved_tensors
            assert nothing is None
            return g * doubled

    born: list[weakref.ref[tg.Tensor]] = []
    gc.disable()
    try:
        x = leaf(3.0)
        out = Square.apply(x)
        assert born[0]() is not None
        out.backward()
        assert x.grad.tolist() == [6.0] and born[0]() is None
        again = Square.apply(x)
        del again
        assert born[1]() is None, "nothing waits for the garbage collector"
    finally:
        gc.enable()


def test_without_recording_no_node_is_made() -> None:
    with tg.no_grad():
        assert Cube.apply(leaf(1.0)).grad_fn is None
    assert Cube.apply(tg.ones(1)).grad_fn is None


def test_once_differentiable_refuses_a_second_derivative() -> None:
    class Once(Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, g: tg.Tensor) -> tg.Tensor:
            (x,) = ctx.saved_tensors
            return tg.from_numpy(2 * x.numpy() * g.numpy())

    x = leaf(2.0)
    assert gradcheck(Once.apply, x)
    (first,) = tg.autograd.grad(Once.apply(x * 1), x, create_graph=True)
    assert first.item() == 4.0
    with pytest.raises(RuntimeError, match=r"Once: .*once_differentiable"):
        tg.autograd.grad(first, x)


def test_it_appears_in_the_graph() -> None:
    x = leaf(1.0)
    graph = tg.graph.trace(Cube.apply(x * 2).sum())
    assert [n.op for n in graph.nodes if n.op] == ["mul", "Cube", "sum"]
