"""How an operator conducts itself: whose memory its results are, what an invalid call leaves behind, what it keeps alive, whether two
calls give the same bits, dtypes, batches, forward mode. Checks as in checks.py, run once for each operator.
"""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import autograd, dtypes, random
from .._tensor import Tensor, wrap
from ..autograd.comparison import Check
from ..autograd.differences import Settings, random_upstreams
from ..autograd.modes import is_grad_enabled
from .samples import Sample, agree, as_function, contiguous, results, tensors_of

if TYPE_CHECKING:
    from . import OpResult

_FORWARD = Settings.of(np.dtype(np.float64), None, None, None, 0, 1)


def _writes(sample: Sample) -> bool:
    """Whether the call writes to an operand because it is asked to."""
    return bool(sample.bound.arguments.get("inplace")) or bool(sample.operator.declaration.mutates)


def check_aliasing(sample: Sample, result: OpResult) -> None:
    """A view operator's result shares its operand's memory; any other's is new, but for compositions that return an operand or a view."""
    operator = sample.operator
    if _writes(sample):
        return
    given = [wrap(contiguous(a)) for a in sample.arrays]
    outputs = [t for t in tensors_of(sample.call_function(given)) if t.numel()]
    for k, t in enumerate(outputs):
        shared = [sample.owners[i] for i, g in enumerate(given) if g.numel() and np.shares_memory(g._data, t._data)]
        if operator.view:
            assert shared, f"result {k} is not a view of an operand, though the operator is declared view=True"
        elif shared and not (operator.composite and (t._base is not None or any(t is g for g in given))):
            raise AssertionError(
                f"result {k} shares memory with {', '.join(map(repr, shared))}: a write to one changes the other unseen; return a copy, "
                "or declare view=True"
            )
        if not operator.view and not operator.composite:
            for other in outputs[:k]:
                assert not np.shares_memory(other._data, t._data), f"result {k} shares memory with another result"
    result.count("aliasing")


def check_refused(sample: Sample, result: OpResult) -> None:
    """A call that is refused leaves operands, random numbers, gradients and the graph as they were."""
    operator = sample.operator
    refused = 0
    for what, args, kwargs in _invalid(sample):
        given = [a for a in (*args, *kwargs.values()) for a in (a if isinstance(a, list) else [a]) if isinstance(a, Tensor)]
        leaves = [t.requires_grad_() if t.dtype.kind == "f" and t.is_leaf else t for t in given]
        before = [(t._data.copy(), t._version, t.grad_fn) for t in leaves]
        random.manual_seed(sample.seed)
        state = pickle.dumps(random.get_rng_state())
        try:
            operator.function(*args, **kwargs)
        except Exception as error:
            refused += 1
            after = f"after {what} was refused ({type(error).__name__})"
        else:
            continue
        for i, (t, (array, version, node)) in enumerate(zip(leaves, before, strict=True)):
            assert np.array_equal(t._data, array, equal_nan=array.dtype.kind == "f"), f"operand {i} is changed {after}"
            assert t._version == version and t.grad_fn is node and t.grad is None, f"operand {i} has another history {after}"
            assert t._storage is None or not t._storage.savers, f"operand {i} is still kept for backward {after}"
        assert pickle.dumps(random.get_rng_state()) == state, f"random numbers were drawn {after}"
        assert is_grad_enabled(), f"recording is off {after}"
        result.count("refused call")
    assert refused, "an unknown argument was accepted"


def _invalid(sample: Sample) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Calls that most operators refuse: (what is wrong, args, kwargs)."""

    def fresh() -> list[Any]:
        return [wrap(contiguous(a)) for a in sample.arrays]

    args, kwargs = sample.arguments(fresh())
    yield "an unknown argument", args, {**kwargs, "no_such_argument": 1}
    if sample.operator.internal:  # its callers see to what it is given
        return
    for i, owner in enumerate(sample.owners):
        for what, value in (
            ("text", "text"),
            ("an odd shape", wrap(np.full((2, 7, 1, 11, 5, 3), 0.25))),
            ("integers", wrap(np.zeros(sample.arrays[i].shape, np.int64))),
        ):
            values = fresh()
            values[i] = value
            args, kwargs = sample.arguments(values)
            yield f"{what} for {owner!r}", args, kwargs
    for k, value in enumerate(sample.call.args):
        if not isinstance(value, (np.ndarray, np.generic, list, tuple)):
            args, kwargs = sample.arguments(fresh())
            yield f"an object as argument {k}", (*args[:k], object(), *args[k + 1 :]), kwargs
    for name, value in sample.call.kwargs.items():
        if not isinstance(value, (np.ndarray, np.generic, list, tuple)):
            args, kwargs = sample.arguments(fresh())
            yield f"an object as {name}", args, {**kwargs, name: object()}


def check_repeatable(sample: Sample, result: OpResult) -> None:
    """Two calls on the same operands, from the same seed, give the same bits, and so do their gradients."""

    def run() -> list[bytes]:
        values = [v for v in results(sample.call_function([contiguous(a) for a in sample.arrays])) if v is not None]
        return [v.tobytes() for v in (*values, *(_gradients(sample) or ()))]

    first, second = run(), run()
    assert first == second, "two calls with the same operands differ in their bits"
    result.count("repeated call")


def _gradients(sample: Sample) -> list[np.ndarray] | None:
    """The gradients of the differentiable operands for a random upstream; None where there are none."""
    wanted = sample.differentiable()
    leaves = [wrap(contiguous(a)).requires_grad_() if i in wanted else wrap(contiguous(a)) for i, a in enumerate(sample.arrays)]
    outputs = [t for t in tensors_of(sample.call_function(leaves)) if t.requires_grad]
    if not outputs:
        return None
    upstreams = [wrap(random_upstreams([t.shape], t.dtype, k)[0]) for k, t in enumerate(outputs)]
    found = autograd.grad(outputs, [leaves[i] for i in wanted], upstreams, allow_unused=True)
    return [np.zeros_like(sample.arrays[i]) if g is None else g._data for i, g in zip(wanted, found, strict=True)]


def check_memory(sample: Sample, result: OpResult) -> None:
    """Results, the graph and what it saved die with the last reference to them, before and after backward, without the collector."""
    if _writes(sample):
        return
    _gradients(sample)  # kernels, plans and caches that stay are made here
    collecting = gc.isenabled()
    gc.disable()
    try:
        for backward in (False, True):
            alive = [what for what, reference in _traces(sample, backward) if reference() is not None]
            after = "after backward" if backward else "when nothing refers to the results"
            assert not alive, (
                f"{', '.join(sorted(set(alive)))} alive {after}: a reference cycle, or something kept in a global place"
            )
    finally:
        if collecting:
            gc.enable()
    result.count("memory freed", 2)


def _traces(sample: Sample, backward: bool) -> list[tuple[str, weakref.ref[Any]]]:
    """Weak references to what one call and its backward made."""
    wanted = sample.differentiable()
    leaves = [wrap(contiguous(a)).requires_grad_() if i in wanted else wrap(contiguous(a)) for i, a in enumerate(sample.arrays)]
    outputs = tensors_of(sample.call_function(leaves))
    found: list[tuple[str, weakref.ref[Any]]] = []
    own = {id(t) for t in leaves} | {id(t._data) for t in leaves}
    for t in outputs:
        if id(t) in own:
            continue
        found.append(("a result", weakref.ref(t)))
        if t.grad_fn is not None:
            found.append(("its node", weakref.ref(t.grad_fn)))
            found += [
                ("a saved array", weakref.ref(v)) for v, *_ in t.grad_fn.saved if isinstance(v, np.ndarray) and id(v) not in own
            ]
    ends = [t for t in outputs if t.requires_grad]
    if backward and ends:
        upstreams = [wrap(random_upstreams([t.shape], t.dtype, k)[0]) for k, t in enumerate(ends)]
        given = autograd.grad(ends, [leaves[i] for i in wanted], upstreams, allow_unused=True)
        found += [("a gradient", weakref.ref(g)) for g in given if g is not None and id(g) not in own]
    return found


def check_dtype_rules(sample: Sample, result: OpResult) -> None:
    """Operands that are promoted to one dtype: float32 with float64 gives float64, integers alone the default float where they become
    floats; each gradient has its own operand's dtype."""
    operator = sample.operator
    promoted = {operator.tensor_params[i] for i in operator.promotes}
    places = [i for i in sample.floating() if sample.owners[i] in promoted]
    if not operator.elementwise or operator.composite or sample.attributes_hold_dtype() or not places:
        return
    wide = results(sample.call_function([contiguous(a) for a in sample.arrays]))
    for lower in places if len(places) > 1 else ():
        mixed = [a.astype(np.float32) if i == lower else contiguous(a) for i, a in enumerate(sample.arrays)]
        got = results(sample.call_function(mixed))
        common = dtypes.result_type([wrap(m) for m in mixed])  # an operand of no axes does not count beside one that has some
        for k, (g, w) in enumerate(zip(got, wide, strict=True)):
            expected = common if w.dtype.kind == "f" else w.dtype
            assert g.dtype == expected, (
                f"result {k} with float32 for {sample.owners[lower]!r} beside float64: {g.dtype}, expected {expected}"
            )
        agree(f"float32 for {sample.owners[lower]!r} beside float64", got, wide, 1e-4 + 1e3 * float(operator.tolerance or 0))
        leaves = [wrap(m).requires_grad_() if i in sample.differentiable() else wrap(m) for i, m in enumerate(mixed)]
        ends = [t for t in tensors_of(sample.call_function(leaves)) if t.requires_grad]
        if ends:
            wanted = [leaves[i] for i in sample.differentiable()]
            found = autograd.grad(ends, wanted, [wrap(np.ones(t.shape, t.dtype)) for t in ends], allow_unused=True)
            for leaf, g in zip(wanted, found, strict=True):
                assert g is None or g.dtype == leaf.dtype, f"a {leaf.dtype} operand has a {g.dtype} gradient"  # type: ignore[union-attr]
        result.count("dtype rule")
    if operator.int_to_float and operator.declaration.differentiable:
        whole = [np.ones(a.shape, np.int64) if i in places else contiguous(a) for i, a in enumerate(sample.arrays)]
        for t in tensors_of(sample.call_function(whole)):
            default = dtypes.get_default_dtype()
            assert t.dtype == default, f"integers give {t.dtype}, expected the default dtype {default}"
            result.count("dtype rule")


def check_batches(sample: Sample, result: OpResult) -> None:
    """An elementwise operator on a batch is the operator on each of its elements (others declare `Batched`, if they are so)."""
    operator = sample.operator
    arrays = sample.arrays
    if not operator.elementwise or operator.composite or operator.random or not arrays or _writes(sample):
        return
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    if not shape or not shape[0] or operator.variadic:
        return
    values = [np.broadcast_to(a, shape) for a in arrays]
    whole = results(sample.call_function([contiguous(v) for v in values]))
    for i in range(shape[0]):
        part = results(sample.call_function([contiguous(v[i]) for v in values]))
        agree(f"element {i} of a batch against a call of its own", part, [w[i] for w in whole], 1e-12)
    result.count("batch")


def check_forward_mode(sample: Sample, result: OpResult) -> None:
    """J v by `functional.jvp` along random directions, against finite differences, and <u, J v> = <J^T u, v>."""
    positions = sample.differentiable()
    if not positions or not sample.operator.gradgrad or not any(sample.arrays[i].size for i in positions):
        return
    tensors = tuple(wrap(contiguous(sample.arrays[i])) for i in positions)
    check = Check(sample.operator.name, as_function(sample, positions), tensors, list(range(len(positions))))
    if sum(t.numel() for t in check.outputs):
        result.count("forward mode", check.run_forward(_FORWARD, directional=True)[0])


CONDUCT = (
    check_aliasing, check_refused, check_repeatable, check_memory, check_dtype_rules, check_batches, check_forward_mode,
)  # fmt: skip

__all__ = ["CONDUCT"]
