"""Compiled code against what it stands for: parallel kernels against their serial twins, compiled plans against eager calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import autograd, kernels, random
from .._tensor import Tensor, wrap
from ..autograd.differences import random_upstreams
from ..domain import Call
from ..kernels import threads
from ..laws import Batched
from ..registry import Operator
from .law_checks import holds_for
from .samples import Sample, contiguous, results, tensors_of

if TYPE_CHECKING:
    from . import OpResult

PARALLEL = 70_000  # elements: past every size under which a kernel runs on one thread
_CALLS = 4  # of a plan: it is recorded at the first or second, and used from then on


def enlarged(sample: Sample) -> Sample | None:
    """The call on arrays of `PARALLEL` elements: elementwise ones repeated, those with a declared batch axis repeated along it.

    None for an operator that is neither, or draws random numbers.
    """
    operator = sample.operator
    if not sample.arrays or not all(a.size for a in sample.arrays) or operator.random:
        return None
    if operator.elementwise:
        bigger = [np.resize(a, (256, PARALLEL // 256 + 3)) for a in sample.arrays]
    else:
        law = next((law for law in operator.laws if isinstance(law, Batched) and holds_for(law, sample)), None)
        cut = [] if law is None else [i for i, owner in enumerate(sample.owners) if owner in law.parameters]
        if law is None or not cut or sample.arrays[cut[0]].ndim <= law.core:
            return None
        times = -(-PARALLEL // min(sample.arrays[i].size for i in cut))
        bigger = [np.concatenate([a] * times) if i in cut else a for i, a in enumerate(sample.arrays)]
    args, kwargs = sample.arguments(bigger)
    return Sample(operator, Call(args, kwargs), sample.seed)


@contextmanager
def thread_count(n: int) -> Iterator[None]:
    """Inside the block kernels use `n` threads, whatever other programs want of the cores."""
    before, deterministic = threads.shared.requested, random.are_deterministic_algorithms_enabled()
    kernels.set_num_threads(n)
    random.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        random.use_deterministic_algorithms(deterministic)
        threads.shared.requested = before
        threads.shared.generation += 1


def check_threads(sample: Sample, result: OpResult) -> None:
    """Kernels on 1, 2 and all threads give the bits that their serial twins give, forward and backward, on large arrays."""
    operator = sample.operator
    if operator.composite or not kernels.enabled() or operator.kernel("cpu") is None:
        return
    big = enlarged(sample)
    if big is None:
        return
    counts = sorted({1, min(2, threads.limit()), threads.limit()})
    for dtype in (np.float32, np.float64):
        with kernels.serial():
            expected = _bits(big, dtype)
        for n in counts:
            with thread_count(n):
                got = _bits(big, dtype)
            for (what, a), (_, b) in zip(got, expected, strict=True):
                wrong = int(np.sum(a.view(f"u{a.itemsize}") != b.view(f"u{b.itemsize}"))) if a.shape == b.shape else -1
                assert not wrong, (
                    f"{what} in {np.dtype(dtype)} with {n} thread{'s' if n > 1 else ''} differ from the serial kernel's in "
                    f"{'shape' if wrong < 0 else f'{wrong} of {a.size} elements'}, arrays of {max(v.size for v in big.arrays)} elements"
                )
            result.count("threads")


def _bits(sample: Sample, dtype: Any) -> list[tuple[str, np.ndarray]]:
    """The results and the gradients, in order."""
    arrays, wanted = sample.cast(dtype), sample.differentiable()
    leaves = [wrap(contiguous(a)).requires_grad_() if i in wanted else wrap(contiguous(a)) for i, a in enumerate(arrays)]
    outputs = tensors_of(sample.call_function(leaves))
    found = [(f"values of result {k}", np.ascontiguousarray(t._data)) for k, t in enumerate(outputs)]
    ends = [t for t in outputs if t.requires_grad]
    if ends:
        upstreams = [wrap(random_upstreams([t.shape], t.dtype, k)[0]) for k, t in enumerate(ends)]
        gradients = autograd.grad(ends, [leaves[i] for i in wanted], upstreams, allow_unused=True)
        found += [
            (f"gradients of {sample.owners[i]!r}", np.ascontiguousarray(g._data))
            for i, g in zip(wanted, gradients, strict=True)
            if g is not None
        ]
    return found


def check_plan(sample: Sample, result: OpResult) -> None:
    """`tg.compile` of the call and its gradients gives what eager calls give, on other data than it was recorded on."""
    if sample.operator.internal or not sample.arrays:
        return
    _, compared = plan_against_eager(sample.operator, sample.call, sample.seed)
    result.count("compiled plan", compared)


def plan_against_eager(operator: Operator, call: Call, seed: int = 0) -> tuple[Callable[..., Any], int]:
    """(the compiled call, how many of its calls were compared with eager ones): values and gradients in float32, four shuffles of the
    drawn values. A call that one of both refuses must be refused by the other, with the same kind of error.
    """
    from ..compiler import compile

    sample = Sample(operator, call, seed)
    function = _with_gradients(sample)
    compiled = compile(function)
    rng = np.random.default_rng(seed)
    compared = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(_CALLS):
            values = [rng.permutation(a.reshape(-1)).reshape(a.shape) for a in sample.cast(np.float32)]
            eager, planned = (_outcome(f, values, seed) for f in (function, compiled))
            if isinstance(eager, type) or isinstance(planned, type):
                assert eager is planned, f"eager: {eager}, compiled plan: {planned}"
                continue
            compared += 1
            for k, (a, b) in enumerate(zip(planned, eager, strict=True)):
                assert (a is None) == (b is None), f"compiled plan: result or gradient {k} is {a}, eager {b}"
                if b is not None:
                    assert a.dtype == b.dtype, f"compiled plan: result or gradient {k} has dtype {a.dtype}, eager {b.dtype}"
                    np.testing.assert_allclose(
                        a, b, rtol=2e-4, atol=1e-5, err_msg=f"compiled plan against eager, result or gradient {k}"
                    )
    return compiled, compared


def _outcome(function: Callable[..., Any], values: list[np.ndarray], seed: int) -> Any:
    """Results and gradients as arrays, or the kind of error."""
    random.manual_seed(seed)
    tensors = [wrap(v.copy()).requires_grad_() if v.dtype.kind == "f" else wrap(v.copy()) for v in values]
    try:
        outputs, gradients = function(*tensors)
    except (ValueError, IndexError, RuntimeError) as error:  # shuffled values may be wrong for an operator
        return type(error)
    return [v if v is None else v.copy() for v in results([*outputs, *gradients])]


def _with_gradients(sample: Sample) -> Callable[..., Any]:
    """(outputs, gradients of the sum of their squares) of the call, as a function of its arrays as Tensors."""

    def function(*tensors: Tensor) -> Any:
        args, kwargs = sample.arguments(list(tensors))
        outputs = tensors_of(sample.operator(*args, **kwargs))
        wanted = [t for t in tensors if t.requires_grad]
        ends = [(t * t).sum() for t in outputs if t.requires_grad]  # type: ignore[operator, attr-defined]
        gradients = autograd.grad(ends, wanted, allow_unused=True) if ends else ()
        return [t.detach() for t in outputs], gradients

    return function


KERNELS = (check_threads, check_plan)

__all__ = ["KERNELS", "check_plan", "check_threads", "enlarged", "plan_against_eager", "thread_count"]
