"""Reverse-mode automatic differentiation: `backward`, `grad`, the recording switches, and what is built on them.

node.py: what an operator call leaves behind. engine.py: the backward pass. modes.py: no_grad and its kin. function.py: custom
forward/backward in user code. functional.py: vjp, jvp, jacobian, hessian. recompute.py: checkpoint, which recomputes instead
of saving. numerical.py: gradcheck. May import `tensor`, `dispatch` and `registry`; never `nn` or anything built on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._state import state
from .modes import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_anomaly_enabled,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)

if TYPE_CHECKING:
    from .._tensor import Tensor
    from . import functional
    from .function import Function
    from .numerical import GradcheckError, gradcheck, gradgradcheck
    from .recompute import checkpoint


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _upstreams(outputs: list[Tensor], grads: Any, name: str) -> list[Tensor]:
    """The upstream gradients, given or 1 for outputs of one element, checked against the outputs."""
    from .._tensor import Tensor, wrap

    given = [None] * len(outputs) if grads is None else _as_list(grads)
    if len(given) != len(outputs):
        raise ValueError(f"{name}: got {len(given)} upstream gradients for {len(outputs)} outputs")
    result = []
    for output, g in zip(outputs, given, strict=True):
        if not isinstance(output, Tensor):
            raise TypeError(f"{name}: expected Tensors, got {type(output).__name__}")
        if not output.requires_grad:
            raise RuntimeError(
                f"{name}: this tensor (shape {output.shape}) does not require grad and has no history; set requires_grad=True on "
                "an input, and check that the computation was not under no_grad or detached"
            )
        if g is None:
            if output.numel() != 1:
                raise RuntimeError(
                    f"{name}: gradient can be left out only for a tensor of one element, this one has shape {output.shape}; "
                    "reduce it (.sum(), .mean()) or pass `gradient` of that shape"
                )
            g = wrap(np.ones(output._data.shape, output._data.dtype))
            if state.capture is not None:
                state.capture.made(g)
        elif not isinstance(g, Tensor):
            from ..creation import tensor

            g = tensor(g, dtype=output.dtype)
        if g.shape != output.shape:
            raise ValueError(f"{name}: the upstream gradient has shape {g.shape}, expected {output.shape}")
        result.append(g if g.dtype == output.dtype else g.to(output.dtype))
    return result


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulates the gradients of `tensors` into `.grad` of the leaves (or of `inputs` only).

    Nothing is written if anything raises. See `Tensor.backward`.
    """
    from . import engine

    outputs = _as_list(tensors)
    upstreams = _upstreams(outputs, grad_tensors, "backward")
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        results = engine.run(outputs, upstreams, retain_graph=retain, create_graph=create_graph)
    else:
        targets = _as_list(inputs)
        found: Any = engine.run(outputs, upstreams, targets=targets, retain_graph=retain, create_graph=create_graph)
        results = [(t, found[engine.target_key(t)]) for t in targets if engine.target_key(t) in found]
    for leaf, gradient in results:
        leaf.grad = gradient if leaf.grad is None else _added(leaf.grad, gradient, create_graph)


def _added(known: Tensor, gradient: Tensor, create_graph: bool) -> Tensor:
    with set_grad_enabled(create_graph):
        total: Tensor = known + gradient  # type: ignore[operator]
    return total


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of sum(outputs * grad_outputs) with respect to `inputs`, returned and not accumulated.

    create_graph: the result can be differentiated again. allow_unused: None, instead of RuntimeError, for an input that the
    outputs do not depend on. materialize_grads: zeros instead, which implies allow_unused. is_grads_batched: grad_outputs has one
    more axis in front, and so have the results: one gradient for each of its entries. only_inputs: there is no other way; False
    raises ValueError.
    """
    from . import engine

    if not only_inputs:
        raise ValueError("grad: only_inputs=False is not supported; tg.autograd.backward accumulates into other leaves")
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "grad: materialize_grads=True puts zeros for unused inputs; allow_unused must be True or left out with it"
        )
    outs, ins = _as_list(outputs), _as_list(inputs)
    for i, t in enumerate(ins):
        if not t.requires_grad:
            raise RuntimeError(f"grad: input {i} (shape {t.shape}) does not require grad")
    retain = create_graph if retain_graph is None else retain_graph
    if is_grads_batched:
        return _batched_grad(outs, ins, grad_outputs, retain, create_graph, allow_unused, materialize_grads)
    upstreams = _upstreams(outs, grad_outputs, "grad")
    found: Any = engine.run(outs, upstreams, targets=ins, retain_graph=retain, create_graph=create_graph)
    result = []
    for i, t in enumerate(ins):
        g = found.get(engine.target_key(t))
        if g is None and materialize_grads:
            from ..creation import zeros_like

            g = zeros_like(t, requires_grad=create_graph)
        elif g is None and not allow_unused:
            raise RuntimeError(
                f"grad: the outputs do not depend on input {i} (shape {t.shape}); pass allow_unused=True for None, "
                "materialize_grads=True for zeros"
            )
        result.append(g)
    return tuple(result)


def _batched_grad(outs: list[Tensor], ins: list[Tensor], given: Any, retain: bool, create_graph: bool, *unused: Any) -> Any:
    """One backward pass for each entry along the first axis of the upstream gradients, the results stacked."""
    from .._tensor import Tensor
    from ..registry import get

    stack = get("stack").function

    upstreams = _as_list(given)
    lengths = {len(u) if isinstance(u, Tensor) and u.ndim else 0 for u in upstreams}
    if len(lengths) != 1 or not min(lengths):
        raise ValueError(
            "grad: is_grads_batched=True needs grad_outputs that are Tensors of one length, at least 1, along axis 0"
        )
    count = lengths.pop()
    rows = [
        grad(outs, ins, [u[i] for u in upstreams], retain or i + 1 < count, create_graph, True, unused[0], False, unused[1])
        for i in range(count)
    ]
    return tuple(None if column[0] is None else stack(column) for column in zip(*rows, strict=True))


_LAZY = {
    "Function": "function", "checkpoint": "recompute", "gradcheck": "numerical", "gradgradcheck": "numerical",
    "GradcheckError": "numerical",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    import importlib

    if name == "functional":
        return importlib.import_module(".functional", __name__)
    if name in _LAZY:
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Function", "GradcheckError", "backward", "checkpoint", "detect_anomaly", "enable_grad", "functional", "grad", "gradcheck",
    "gradgradcheck", "inference_mode", "is_anomaly_enabled", "is_grad_enabled", "is_inference_mode_enabled", "no_grad",
    "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
