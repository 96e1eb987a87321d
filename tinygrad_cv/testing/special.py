"""Gradients where random calls do not look: at ties, zeros and bounds, in float16, and of one of several results.

A random call meets no tie and no zero, so what a rule promises there is written out in `POINTS`: the call, the upstream, the gradients,
from the operator's documentation (PyTorch's, where ties share evenly) and from mathematics. Branches for float16 are compared with
float64 at the same rounded inputs. An operator with several results is differentiated through each alone, where the others send back
nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import autograd
from .._tensor import Tensor, wrap
from ..autograd.comparison import Check
from ..autograd.differences import Settings, random_upstreams
from ..domain import Call, call
from .samples import Sample, agree, as_function, contiguous, tensors_of

if TYPE_CHECKING:
    from . import OpResult

_FLOAT64 = Settings.of(np.dtype(np.float64), None, None, None, 0, 400)
_HALF = 0.05  # of the largest gradient: two roundings to 11 bits and what conditioning makes of them
_LARGEST_HALF = 200.0
_WITH_STATISTICS = ("batch_norm_backward", "group_norm_backward", "layer_norm_backward")  # given in float32 beside float16


class Point(NamedTuple):
    """A call, the upstream of one of its results, and the gradients that are right there, one for each array (None: not looked at)."""

    call: Call
    upstream: Any
    gradients: tuple[Any, ...]
    result: int = 0


def _point(call: Call, upstream: Any, *gradients: Any, result: int = 0) -> Point:
    return Point(call, upstream, gradients, result)


def _a(*values: Any) -> np.ndarray:
    return np.array(values if len(values) > 1 or not isinstance(values[0], list) else values[0], np.float64)


_TIED = call(_a(1.0, 2.0, 0.5), _a(1.0, 2.0, 0.5))
_INF = math.inf

POINTS: dict[str, tuple[Point, ...]] = {
    "maximum": (_point(_TIED, [3.0, 5.0, 7.0], [1.5, 2.5, 3.5], [1.5, 2.5, 3.5]),),
    "minimum": (_point(_TIED, [3.0, 5.0, 7.0], [1.5, 2.5, 3.5], [1.5, 2.5, 3.5]),),
    "amax": (_point(call(_a([[2.0, 1.0, 2.0], [0.0, 0.0, 0.0]]), 1), [4.0, 6.0], [[2.0, 0.0, 2.0], [2.0, 2.0, 2.0]]),),
    "amin": (_point(call(_a([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0]]), 1), [4.0, 6.0], [[2.0, 0.0, 2.0], [2.0, 2.0, 2.0]]),),
    "median_all": (_point(call(_a(2.0, 2.0, 1.0, 3.0)), 5.0, [2.5, 2.5, 0.0, 0.0]),),
    "linalg.vector_norm": (
        _point(call(_a(2.0, -2.0, 1.0), _INF), 3.0, [1.5, -1.5, 0.0]),
        _point(call(_a(1.0, -1.0, 2.0), -_INF), 3.0, [1.5, -1.5, 0.0]),
        _point(call(_a(0.0, 0.0), 2), 3.0, [0.0, 0.0]),
        _point(call(_a(0.0, 0.0), 3), 3.0, [0.0, 0.0]),
        _point(call(_a(0.0, -2.0), 3), 3.0, [0.0, -3.0]),
        _point(call(_a(0.0, -2.0), 0.5), 3.0, [0.0, -3.0]),
        _point(call(_a(0.0, -2.0), 1), 3.0, [0.0, -3.0]),
        _point(call(_a(0.0, -2.0), 0), 3.0, [0.0, 0.0]),
    ),
    "scatter_extremum": (
        _point(call(_a(3.0, 0.0), 0, np.array([0, 0, 1]), _a(3.0, 3.0, 1.0), True, True), [6.0, 5.0], [2.0, 0.0], None, [2.0, 2.0, 5.0]),
    ),
    "cdist": (
        _point(call(_a([[2.0, -2.0, 1.0]]), _a([[0.0, 0.0, 0.0]]), _INF), [[3.0]], [[1.5, -1.5, 0.0]], [[-1.5, 1.5, 0.0]]),
        _point(call(_a([[2.0, 1.0]]), _a([[2.0, 1.0]]), 2.0), [[3.0]], [[0.0, 0.0]], [[0.0, 0.0]]),
        _point(call(_a([[2.0, 1.0]]), _a([[2.0, 1.0]]), 3.0), [[3.0]], [[0.0, 0.0]], [[0.0, 0.0]]),
        _point(call(_a([[2.0, 3.0]]), _a([[2.0, 1.0]]), 3.0), [[3.0]], [[0.0, 3.0]], [[0.0, -3.0]]),
        _point(call(_a([[2.0, 1.0]]), _a([[2.0, 1.0]]), _INF), [[3.0]], [[0.0, 0.0]], [[0.0, 0.0]]),
    ),
    "pow": (
        _point(call(_a(0.0, 0.0, 0.0, 0.0), _a(0.0, 1.0, 2.0, 3.0)), [3.0] * 4, [0.0, 3.0, 0.0, 0.0], [0.0] * 4),
        _point(call(_a(0.0, -1.5), 0), [3.0, 3.0], [0.0, 0.0]),
        _point(call(_a(0.0, -1.5), 1), [3.0, 3.0], [3.0, 3.0]),
        _point(call(_a(0.0, -1.5), 2), [3.0, 3.0], [0.0, -9.0]),
        _point(call(_a(0.0, -1.5), 3), [3.0, 3.0], [0.0, 20.25]),
        _point(call(0, _a(0.0, 1.0, 2.5)), [3.0] * 3, [0.0] * 3),
        _point(call(0.0, _a(0.0, 1.0, 0.5, -1.0)), [3.0] * 4, [0.0, 0.0, 0.0, -_INF]),
        _point(call(2, _a(0.0, 3.0)), [3.0, 3.0], [3 * math.log(2), 24 * math.log(2)]),
        _point(call(1, _a(0.5)), [3.0], [0.0]),
        _point(call(-1.5, _a(2.0)), [3.0], [math.nan]),
    ),
    "relu": (_point(call(_a(0.0005, 0.0, -0.0005)), [3.0] * 3, [3.0, 0.0, 0.0]),),
    "logit": (
        _point(call(_a(0.0998, 0.5, 0.9002), eps=0.1), [3.0] * 3, [0.0, 12.0, 0.0]),
        _point(call(_a(-0.5, 0.5, 1.5)), [3.0] * 3, [math.nan, 12.0, math.nan]),
    ),
    "logsumexp": (
        _point(call(_a(-_INF, 0.0), 0), 3.0, [0.0, 3.0]),
        _point(call(_a(-_INF, -_INF), 0), 3.0, [0.0, 0.0]),
    ),
    "logcumsumexp": (_point(call(_a(-_INF, -_INF, 0.0), 0), [3.0, 5.0, 7.0], [0.0, 0.0, 7.0]),),
    "clamp": (
        _point(call(_a(2.0, 0.5, -3.0), _a(1.0, 1.0, 1.0), _a(0.0, 0.0, 0.0)), [3.0, 5.0, 7.0], [0.0] * 3, [0.0] * 3, [3.0, 5.0, 7.0]),
        _point(call(_a(-1.0, 1.0, 0.0), -1.0, 1.0), [3.0, 5.0, 7.0], [3.0, 5.0, 7.0]),
    ),
    "binary_cross_entropy_value": (
        _point(call(_a(0.0, 1.0), _a(0.5, 0.5)), [3.0, 3.0], [-1.5e12, 1.5e12], [300.0, -300.0]),
    ),
    "prod": (
        _point(call(_a([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0]]), 1), [5.0, 7.0], [[30.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    ),
    "linear_recurrence": (_point(call(_a(2.0).reshape(()), _a(3.0).reshape(()), 0), 5.0, 5.0, 0.0),),
    "linalg.pinv": (
        _point(call(_a([[2.0, 0.0], [0.0, 4.0]]), hermitian=True), [[1.0, 2.0], [6.0, 1.0]], [[-0.25, -0.5], [-0.5, -0.0625]]),
    ),
    "linalg.svd": (  # of the singular values alone, where U or Vh have columns or rows that are arbitrary
        _point(call(_a([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), True), [1.0, 10.0], [[1.0, 0.0], [0.0, 10.0], [0.0, 0.0]], result=1),
        _point(call(_a([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), True), [1.0, 10.0], [[1.0, 0.0, 0.0], [0.0, 10.0, 0.0]], result=1),
    ),
    "cumprod": (_point(call(_a(2.0, 0.0, 3.0), 0), [5.0, 7.0, 11.0], [5.0, 14.0 + 66.0, 0.0]),),
}  # fmt: skip


def _outputs(sample: Sample, arrays: list[np.ndarray]) -> tuple[list[Tensor], list[Tensor]]:
    """(differentiable inputs, results that require grad)."""
    wanted = sample.differentiable()
    leaves = [wrap(a).requires_grad_() if i in wanted else wrap(a) for i, a in enumerate(arrays)]
    return [leaves[i] for i in wanted], [t for t in tensors_of(sample.call_function(leaves)) if t.requires_grad]


def check_points(sample: Sample, result: OpResult) -> None:
    """At the operator's special points the gradients are exactly what its documentation says."""
    for point in POINTS.get(sample.operator.name, ()):
        at = Sample(sample.operator, point.call, sample.seed)
        with np.errstate(all="ignore"):
            inputs, outputs = _outputs(at, [contiguous(a) for a in at.arrays])
            output = outputs[point.result]
            upstream = wrap(np.array(point.upstream, np.float64).reshape(output.shape))
            found = autograd.grad(output, inputs, upstream, allow_unused=True)
        for i, gradient in zip(at.differentiable(), found, strict=True):
            if i < len(point.gradients) and point.gradients[i] is not None:
                expected = np.array(point.gradients[i], np.float64)
                got = np.zeros_like(expected) if gradient is None else gradient._data
                assert np.allclose(got, expected, rtol=1e-9, atol=1e-12, equal_nan=True), (
                    f"gradient of {at.owners[i]!r} at a special point: {got.tolist()}, expected {expected.tolist()}\n{at.program()}"
                )
        result.count("special point")


def check_results_alone(sample: Sample, result: OpResult) -> None:
    """The derivative of each of several results, the others unused, against finite differences; an operator may refuse one by name."""
    positions = sample.differentiable()
    if not positions or not any(sample.arrays[i].size for i in positions):
        return
    outputs = tensors_of(sample.call_function([contiguous(a) for a in sample.arrays]))
    if sum(t.dtype.kind == "f" for t in outputs) < 2:
        return
    tensors = tuple(wrap(contiguous(sample.arrays[i])) for i in positions)
    whole = as_function(sample, positions)
    for k, output in enumerate(outputs):
        if output.dtype.kind != "f" or not output.numel():
            continue

        def function(*given: Tensor, k: int = k) -> Any:
            return tensors_of(whole(*given))[k]

        try:
            check = Check(f"first derivative of result {k} alone", function, tensors, list(range(len(positions))))
            if check.outputs:
                result.count("result alone", check.run(_FLOAT64)[0])
        except RuntimeError as error:
            if not str(error).startswith(sample.operator.name):
                raise


def check_half(sample: Sample, result: OpResult) -> None:
    """Gradients in float16 are those in float64 at the same rounded inputs, up to what float16 holds."""
    if not sample.differentiable() or sample.operator.random or sample.attributes_hold_dtype():
        return
    if sample.operator.name in _WITH_STATISTICS:
        return
    arrays = sample.cast(np.float16)
    found = []
    for kind in (np.float64, np.float16):
        with np.errstate(all="ignore"):
            inputs, outputs = _outputs(sample, [a.astype(kind) if a.dtype.kind == "f" else contiguous(a) for a in arrays])
            random = random_upstreams([t.shape for t in outputs], np.float64, 9)
            upstreams = [wrap(u.astype(np.float16).astype(t.dtype)) for t, u in zip(outputs, random, strict=True)]
            if not outputs or any(t.dtype != kind for t in outputs):
                return
            found.append([g for g in autograd.grad(outputs, inputs, upstreams, allow_unused=True)])
        if any(not np.all(np.abs(t._data) < _LARGEST_HALF) for t in (*outputs, *(g for g in found[-1] if g is not None))):
            return
    for i, precise, half in zip(sample.differentiable(), *found, strict=True):
        if precise is not None and half is not None:
            assert half.dtype == np.float16, f"gradient of {sample.owners[i]!r}: float16 in, gradient {half.dtype}"
            agree(f"gradient of {sample.owners[i]!r} in float16 against float64", half._data, precise._data, _HALF)
    result.count("float16 gradient")


SPECIAL = (check_points, check_results_alone, check_half)

__all__ = ["POINTS", "SPECIAL", "Point", "check_half", "check_points", "check_results_alone"]
