"""Custom forward and backward in user code, without registering an operator: `tg.autograd.Function`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dispatch
from .._state import state
from .._tensor import Tensor, wrap
from . import engine
from .modes import no_grad
from .node import Node, Storage, wants_grad


class FunctionCtx:
    """What `forward` leaves for `backward`: saved tensors, and any attribute you set on it.

    needs_input_grad: for each argument of forward, whether its gradient is wanted.
    """

    needs_input_grad: tuple[bool, ...] = ()
    _materialize = True
    _node: Node | None = None

    def __init__(self) -> None:
        self._to_save: tuple[Any, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._kept: list[tuple[str, Any]] = []

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps inputs, outputs or intermediate tensors for backward, protected from in-place writes. Call it once."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward: expected Tensors or None, got {type(t).__name__}; other values can be attributes of ctx"
                )
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved, in order. RuntimeError once backward has freed it, or after an in-place write to it."""
        node = self._node
        if node is None:
            raise RuntimeError("saved_tensors: there are none outside of backward")
        if node.freed and self._kept:
            raise RuntimeError(
                f"{node.op.name}: its saved tensors have been freed; pass retain_graph=True to the first backward"
            )
        values: list[Any] = []
        for kind, value in self._kept:
            if kind == "plan":
                values.append(engine.unpack(node, value))
            elif kind == "held":
                tensor, version = value
                if tensor._version != version:
                    raise RuntimeError(
                        f"{node.op.name}: a saved tensor of shape {tensor.shape} was changed by an in-place write (version "
                        f"{version} when saved, {tensor._version} now); save a clone"
                    )
                values.append(tensor)
            else:
                values.append(None)
        return tuple(values)

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Declares outputs without a gradient (indices, masks); backward receives zeros for them."""
        self._non_differentiable = outputs

    def mark_dirty(self, *inputs: Tensor) -> None:
        """Declares inputs that forward changed in place and returns."""
        self._dirty = inputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward receives zeros (True, as at the start) or None for an output that no gradient reached."""
        self._materialize = bool(value)


def _call_backward(node: Node, upstreams: tuple[Tensor | None, ...]) -> list[Any]:
    """Calls the Function's `backward` and sorts out what it returns by tensor input."""
    operator: Any = node.op
    ctx, name = operator.ctx, operator.name
    grads = list(upstreams)
    if ctx._materialize:
        grads = [_zeros(s, d) if g is None else g for g, s, d in zip(grads, node.shapes, node.dtypes, strict=True)]
    ctx._node = node
    try:
        returned = operator.function.backward(ctx, *grads)
    finally:
        ctx._node = None
    returned = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
    if len(returned) < operator.count or any(g is not None for g in returned[operator.count :]):
        raise RuntimeError(
            f"{name}: backward must return one gradient (or None) for each of forward's {operator.count} arguments, "
            f"got {len(returned)}"
        )
    for i, g in enumerate(returned[: operator.count]):
        if g is not None and i not in operator.positions:
            raise RuntimeError(f"{name}: backward returned a gradient for argument {i} of forward, which was no Tensor")
    return [returned[i] for i in operator.positions]


def _zeros(shape: tuple[int, ...], dtype: Any) -> Tensor:
    zeros = wrap(np.zeros(shape, dtype))
    if state.capture is not None:
        state.capture.made(zeros)
    return zeros


class _FunctionOperator:
    """Stands where a registered operator stands in a node: named after the Function, with a rule that calls its `backward`."""

    variadic = None
    optional_tensors: frozenset[str] = frozenset()
    broadcasts = elementwise = composite = view = random = False
    gradgrad = differentiable = True
    promotes: tuple[int, ...] = ()
    joint_rule = (_call_backward, (("ctx", 0), ("upstreams", 0)))
    rules: dict[int, Any] = {}  # noqa: RUF012
    attr_params: tuple[str, ...] = ()
    formula = doc = source = ""
    kinks: dict[float, float] = {}  # noqa: RUF012
    cost = result = scalar = None

    def __init__(self, function: type[Function], ctx: FunctionCtx, count: int, positions: list[int], outputs: int) -> None:
        self.function, self.ctx, self.count, self.positions = function, ctx, count, positions
        self.name, self.provider = function.__name__, function.__module__
        self.doc = inspect.cleandoc(function.__doc__ or "")
        self.tensor_params = tuple(_parameter_names(function, count)[i] for i in positions)
        self.nondiff = (False,) * len(positions)
        self.outputs = ("out",) if outputs == 1 else tuple(f"out{k}" for k in range(outputs))

    def save_plan(self, needs: tuple[bool, ...]) -> tuple[tuple[str, int], ...]:
        """Inputs and outputs that `save_for_backward` named."""
        return tuple(dict.fromkeys(value for kind, value in self.ctx._kept if kind == "in" or kind == "out"))


class _FunctionNode(Node):
    """A node whose saved values are partly on the ctx."""

    def release(self) -> None:
        super().release()
        self.op.ctx._kept = [(kind, None) for kind, _ in self.op.ctx._kept]  # type: ignore[attr-defined]


def _parameter_names(function: type[Function], count: int) -> list[str]:
    parameters = list(inspect.signature(function.forward).parameters.values())
    if not _has_setup(function):
        parameters = parameters[1:]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[i] if i < len(names) else f"argument{i}" for i in range(count)]


def _has_setup(function: type[Function]) -> bool:
    return function.setup_context is not Function.setup_context


class Function:
    """A differentiable step with a forward and a backward of your own. Subclass it, and call `YourFunction.apply(...)`.

    forward(ctx, *args) computes with Tensors (or with NumPy through `.detach().numpy()`) unrecorded and returns a Tensor or a tuple;
    `ctx.save_for_backward` keeps what backward needs. backward(ctx, *grad_outputs) returns one gradient for each argument of
    forward, None for those that are no Tensors or need none (`ctx.needs_input_grad`). Written with Tensor operators it can be
    differentiated again; otherwise decorate it with `once_differentiable`. Instead of taking ctx in forward, define
    setup_context(ctx, inputs, output), as in PyTorch.

    A wrong number, shape or dtype of gradients raises RuntimeError with the class's name, what was expected and what came.

        class Cube(tg.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x ** 3

            @staticmethod
            def backward(ctx, grad_output):
                (x,) = ctx.saved_tensors
                return 3 * x ** 2 * grad_output

        y = Cube.apply(x)
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"{type(self).__name__} is not instantiated; call {type(self).__name__}.apply(...)")

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the result. Must be overridden."""
        raise NotImplementedError("a Function must define the static method forward")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Fills ctx after a forward that does not take it."""

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Any) -> Any:
        """Computes the gradients of forward's arguments. Must be overridden."""
        raise NotImplementedError("a Function must define the static method backward")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs forward and records it."""
        ctx = FunctionCtx()
        positions = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        wants = state.grad_enabled and any(args[i].requires_grad for i in positions)
        ctx.needs_input_grad = tuple(wants and isinstance(a, Tensor) and a.requires_grad for a in args)
        with no_grad():
            if _has_setup(cls):
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
        several = isinstance(result, (tuple, list))
        found = list(result) if several else [result]
        if not any(isinstance(t, Tensor) for t in found):
            raise TypeError(
                f"{cls.__name__}: forward must return a Tensor or a tuple with Tensors, got {type(result).__name__}"
            )
        given = [args[i] for i in positions]
        fresh = [_own(cls, t, given, ctx, wants) if isinstance(t, Tensor) else t for t in found]
        outputs = [t for t in fresh if isinstance(t, Tensor)]
        if wants or state.capture is not None:
            _record(cls, ctx, len(args), positions, given, found, outputs, wants)
        return type(result)(*fresh) if hasattr(result, "_fields") else tuple(fresh) if several else fresh[0]


def _own(cls: type[Function], tensor: Tensor, given: list[Any], ctx: FunctionCtx, wants: bool) -> Tensor:
    """The tensor that carries the history of an output: the output itself, or an alias if it is an input or a view of one."""
    if any(tensor is d for d in ctx._dirty):
        if wants and tensor.requires_grad and tensor.is_leaf:
            raise RuntimeError(f"{cls.__name__}: a leaf tensor that requires grad cannot be changed in place")
        return tensor
    if any(tensor is t for t in given) or tensor._base is not None or tensor._node is not None:
        if tensor._storage is None:
            tensor._storage = Storage()
        alias = wrap(tensor._data)
        alias._storage = tensor._storage
        return alias
    return tensor


def _record(
    cls: type[Function], ctx: FunctionCtx, count: int, positions: list[int], given: list[Any], found: list[Any],
    outputs: list[Tensor], wants: bool,
) -> None:  # fmt: skip
    returned = [t for t in found if isinstance(t, Tensor)]
    for t in ctx._to_save:
        if t is None:
            ctx._kept.append(("none", None))
        elif (at := next((i for i, g in enumerate(given) if g is t), None)) is not None and not any(t is d for d in ctx._dirty):
            ctx._kept.append(("in", ("in", at)))
        elif (at := next((i for i, g in enumerate(returned) if g is t), None)) is not None:
            ctx._kept.append(("out", ("out", at)))
        else:
            ctx._kept.append(("held", (t, t._version)))
    operator: Any = _FunctionOperator(cls, ctx, count, positions, len(outputs))
    node = dispatch.record(operator, tuple(given), (), tuple(outputs), wants)
    # From here on the node knows the ctx; saved inputs and outputs are read through the node, which checks their versions.
    node.__class__ = _FunctionNode
    ctx._kept = [("plan", node.plan.index(v)) if k in ("in", "out") and v in node.plan else (k, v) for k, v in ctx._kept]
    ctx._to_save = ()
    for t, original in zip(outputs, returned, strict=True):
        if any(original is n for n in ctx._non_differentiable):
            t._requires_grad = False
            if state.capture is None:
                t._node, t._slot = None, 0
        if any(original is d for d in ctx._dirty):
            t._generation += 1
    ctx._non_differentiable = ctx._dirty = ()


class _OnlyOnce(Function):
    """Passes gradients through and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, name: str, count: int, *tensors: Tensor) -> Any:
        ctx.name = name
        return tensors[:count]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise RuntimeError(f"{ctx.name}: its backward is marked once_differentiable, so there is no second derivative")


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a `backward` that is not made of Tensor operators: differentiating its result raises RuntimeError by name."""

    @functools.wraps(backward)
    def wrapper(ctx: FunctionCtx, *grads: Any) -> Any:
        with no_grad():
            result = backward(ctx, *grads)
        node = ctx._node
        if not state.grad_enabled or node is None:
            return result
        sources = [g for g in grads if isinstance(g, Tensor) and g.requires_grad]
        sources += [_parent_tensor(p, s) for p, s in zip(node.parents, node.slots, strict=True) if wants_grad(p)]
        several = isinstance(result, (tuple, list))
        given = list(result) if several else [result]
        tensors = [g for g in given if isinstance(g, Tensor)]
        marked = iter(_OnlyOnce.apply(node.op.name, len(tensors), *tensors, *sources))
        given = [next(marked) if isinstance(g, Tensor) else g for g in given]
        return tuple(given) if several else given[0]

    return wrapper


def _parent_tensor(parent: Any, slot: int) -> Tensor:
    """A tensor of the shape and place in the graph of a node's input, without its values."""
    if isinstance(parent, Tensor):
        return parent
    stand_in = wrap(np.broadcast_to(np.zeros((), parent.dtypes[slot]), parent.shapes[slot]))
    stand_in._node, stand_in._slot, stand_in._requires_grad = parent, slot, True
    return stand_in


__all__ = ["Function", "FunctionCtx", "once_differentiable"]
