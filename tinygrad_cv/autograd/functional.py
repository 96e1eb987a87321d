"""Jacobians, Hessians and their products with vectors, for functions of tensors. Names, arguments and results are PyTorch's.

In every function: func takes Tensors and returns a Tensor or a tuple; inputs is a Tensor or a tuple, and results have the same
structure; create_graph: results can be differentiated again; strict: RuntimeError, instead of zeros, where an output does not
depend on an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..registry import get as get_operator
from . import grad as _grad
from .modes import enable_grad

Tensors = tuple[Tensor, ...]


def _tuple(value: Any, what: str, name: str) -> tuple[Tensors, bool]:
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    for i, t in enumerate(given):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: expected Tensors for `{what}`, got {type(t).__name__} at position {i}")
    return given, isinstance(value, (tuple, list))


def _leaves(name: str, inputs: Any, create_graph: bool) -> tuple[Tensors, bool]:
    """The inputs to differentiate by: new leaves, or (to keep the graph) tensors that hang on the given ones."""
    given, several = _tuple(inputs, "inputs", name)
    for i, t in enumerate(given):
        if t.dtype.kind != "f":
            raise TypeError(f"{name}: input {i} is {t.dtype}; only floating tensors have derivatives")
    if create_graph:
        return tuple(t.clone() if t.requires_grad else t.detach().requires_grad_() for t in given), several  # type: ignore[attr-defined]
    return tuple(t.detach().requires_grad_() for t in given), several


def _run(name: str, func: Callable[..., Any], leaves: Tensors, strict: bool) -> tuple[Tensors, bool]:
    outputs, several = _tuple(func(*leaves), "the result of func", name)
    if strict:
        for i, t in enumerate(outputs):
            if not t.requires_grad:
                raise RuntimeError(f"{name}: output {i} does not depend on the inputs (strict=True)")
    return outputs, several


def _vectors(name: str, v: Any, like: Tensors, what: str) -> Tensors:
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"{name}: `v` may be left out only where {what} is one tensor of one element")
        return (wrap(np.ones(like[0].shape, like[0].dtype)),)
    given, _ = _tuple(v, "v", name)
    if [t.shape for t in given] != [t.shape for t in like]:
        raise ValueError(
            f"{name}: `v` has shapes {[t.shape for t in given]}, expected those of {what}, {[t.shape for t in like]}"
        )
    return given


def _zeros(tensor: Tensor) -> Tensor:
    return wrap(np.zeros(tensor.shape, tensor.dtype))


def _gradients(
    name: str, outputs: Sequence[Tensor], inputs: Tensors, upstreams: Sequence[Tensor], create_graph: bool, strict: bool,
    retain_graph: bool | None = None,
) -> Tensors:  # fmt: skip
    """Gradients with zeros (strict: RuntimeError) where there is no dependence."""
    pairs = [(o, u) for o, u in zip(outputs, upstreams, strict=True) if o.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if pairs:
        found = _grad(
            [o for o, _ in pairs], inputs, [u for _, u in pairs], create_graph=create_graph, allow_unused=True,
            retain_graph=retain_graph,
        )  # fmt: skip
    if strict and any(g is None for g in found):
        missing = [i for i, g in enumerate(found) if g is None]
        raise RuntimeError(f"{name}: the result does not depend on input {missing[0]} (strict=True)")
    return tuple(_zeros(t) if g is None else g for t, g in zip(inputs, found, strict=True))


def _finish(values: Tensors, several: bool, create_graph: bool) -> Any:
    values = values if create_graph else tuple(t.detach() for t in values)
    return values if several else values[0]


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), v^T J): the product of a vector, shaped like the outputs, with the Jacobian. One backward pass."""
    with enable_grad():
        leaves, several = _leaves("vjp", inputs, create_graph)
        outputs, several_out = _run("vjp", func, leaves, strict)
        vectors = _vectors("vjp", v, outputs, "the output")
        result = _gradients("vjp", outputs, leaves, vectors, create_graph, strict)
    return _finish(outputs, several_out, create_graph), _finish(result, several, create_graph)


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), J v): the derivative of the outputs along v, shaped like the inputs.

    By two backward passes: u^T J is linear in u, so differentiating it by u in the direction v gives J v.
    """
    with enable_grad():
        leaves, _ = _leaves("jvp", inputs, create_graph)
        vectors = _vectors("jvp", v, leaves, "the input")
        outputs, several_out = _run("jvp", func, leaves, strict)
        dual = tuple(_zeros(o).requires_grad_() for o in outputs)
        adjoint = _gradients("jvp", outputs, leaves, dual, True, strict)
        result = _gradients("jvp", adjoint, dual, vectors, create_graph, strict)
    return _finish(outputs, several_out, create_graph), _finish(result, several_out, create_graph)


def _rows(name: str, output: Tensor, leaves: Tensors, create_graph: bool, strict: bool) -> Tensors:
    """The Jacobian of one output, one backward pass for each of its elements: shape output.shape + input.shape by input."""
    rows: list[list[Tensor]] = [[] for _ in leaves]
    for k in range(output.numel()):
        one = np.zeros(output.numel(), output.dtype)
        one[k] = 1
        upstream = wrap(one.reshape(output.shape))
        for row, g in zip(rows, _gradients(name, [output], leaves, [upstream], create_graph, strict, True), strict=True):
            row.append(g)
    stack = get_operator("stack").function
    return tuple(
        stack(row).reshape((*output.shape, *leaf.shape)) if row else wrap(np.zeros((*output.shape, *leaf.shape), leaf.dtype))
        for row, leaf in zip(rows, leaves, strict=True)
    )


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian: for output o and input i, a tensor of shape o.shape + i.shape, at [o][i] where there are several.

    vectorize and strategy are accepted for PyTorch's sake; the result is the same, one backward pass for each output element.
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise ValueError(f"jacobian: strategy must be 'reverse-mode' or 'forward-mode', got {strategy!r}")
    with enable_grad():
        leaves, several = _leaves("jacobian", inputs, create_graph)
        outputs, several_out = _run("jacobian", func, leaves, strict)
        result = tuple(_finish(_rows("jacobian", o, leaves, create_graph, strict), several, create_graph) for o in outputs)
    return result if several_out else result[0]


def _scalar(name: str, func: Callable[..., Any]) -> Callable[..., Tensor]:
    def checked(*inputs: Tensor) -> Tensor:
        outputs, _ = _tuple(func(*inputs), "the result of func", name)
        if len(outputs) != 1 or outputs[0].numel() != 1:
            raise RuntimeError(f"{name}: func must return one tensor of one element, got shapes {[t.shape for t in outputs]}")
        return outputs[0].reshape(())  # type: ignore[attr-defined, no-any-return]

    return checked


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The Hessian of a function with one number as its result: i.shape + j.shape, at [i][j] where there are several inputs."""
    checked = _scalar("hessian", func)
    _, several = _tuple(inputs, "inputs", "hessian")

    def gradient(*leaves: Tensor) -> Any:
        tracked = tuple(t if t.requires_grad else t.detach().requires_grad_() for t in leaves)
        found = _gradients("hessian", [checked(*tracked)], tracked, [wrap(np.ones((), tracked[0].dtype))], True, strict)
        return found if several else found[0]

    return jacobian(
        gradient, inputs, create_graph=create_graph, strict=strict, vectorize=vectorize, strategy=outer_jacobian_strategy
    )


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), v^T H): the product of a vector, shaped like the inputs, with the Hessian. Two backward passes."""
    with enable_grad():
        leaves, several = _leaves("vhp", inputs, create_graph)
        vectors = _vectors("vhp", v, leaves, "the input")
        output = _scalar("vhp", func)(*leaves)
        gradient = _gradients("vhp", [output], leaves, [wrap(np.ones((), output.dtype))], True, strict)
        result = _gradients("vhp", gradient, leaves, vectors, create_graph, strict)
    return _finish((output,), False, create_graph), _finish(result, several, create_graph)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), H v): the product of the Hessian with a vector shaped like the inputs.

    Where the second derivatives are continuous this is `vhp`; it is computed as the derivative of the gradient along v, so it
    is right also where they are not symmetric (a custom backward).
    """
    with enable_grad():
        leaves, several = _leaves("hvp", inputs, create_graph)
        vectors = _vectors("hvp", v, leaves, "the input")
        output = _scalar("hvp", func)(*leaves)
        gradient = _gradients("hvp", [output], leaves, [wrap(np.ones((), output.dtype))], True, strict)
        dual = tuple(_zeros(t).requires_grad_() for t in leaves)
        adjoint = _gradients("hvp", gradient, leaves, dual, True, strict)
        result = _gradients("hvp", adjoint, dual, vectors, create_graph, False)
    return _finish((output,), False, create_graph), _finish(result, several, create_graph)


__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
