"""Compiling kernels before they are needed: what `tinygrad-cv warmup` does."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import enabled, numba_available
from .launch import NEVER

if TYPE_CHECKING:
    from ..registry import Operator

_SAMPLES = 6


def _float32(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.float32)
    return [_float32(v) for v in value] if isinstance(value, list) else value


def _samples(operator: Operator) -> list[Any]:
    """Some calls from the operator's domain, floats as float32."""
    from ..domain import NumpyDraw, call

    samples = []
    for seed in range(_SAMPLES):
        drawn = operator.domain(NumpyDraw(seed))
        samples.append(call(*map(_float32, drawn.args), **{k: _float32(v) for k, v in drawn.kwargs.items()}))
    return samples


def _derived(operator: Operator, kernel: Any) -> None:
    """Compiles both twins of an elementwise operator's loop, for full arrays and for every set of attributes in its samples."""
    derived = kernel.derived
    for sample in _samples(operator):
        bound = operator.signature.bind(*sample.args, **sample.kwargs)
        bound.apply_defaults()
        plan = derived.plan(tuple(bound.arguments[p] for p in operator.attr_params))
        if plan is None or plan.loop.smallest >= NEVER:
            continue
        loop, arguments = plan.loop.example()
        loop(*arguments)
        loop.serial(*arguments)


def _by_running(operator: Operator) -> None:
    """Runs an operator with a kernel of its own, forward and backward, on samples of its domain."""
    import tinygrad_cv as tg

    for sample in _samples(operator):

        def tensor(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return tg.tensor(value, requires_grad=value.dtype.kind == "f")
            return [tensor(v) for v in value] if isinstance(value, list) else value

        out = operator(*map(tensor, sample.args), **{k: tensor(v) for k, v in sample.kwargs.items()})
        for o in out if isinstance(out, tuple) else (out,):
            if o.requires_grad:
                tg.autograd.backward(o, tg.ones_like(o), retain_graph=True)


def run(names: Iterable[str] | None = None, progress: Callable[[str, int, int], None] | None = None) -> list[str]:
    """Compiles the CPU kernels of the operators called `names`, or of all that have one, for float32.

    progress: called as progress(name, number done, number in all) before each. A kernel's module may have a function `warmup()`, which
    is then called once instead of running its operators on samples. Returns the names done; [] where kernels are off or Numba is
    missing. Raises KeyError for an unknown name.
    """
    from ..registry import get, operators

    if not enabled() or not numba_available():
        return []
    chosen = [get(n) for n in names] if names is not None else operators()
    ready = [(o, o.kernel("cpu")) for o in chosen]
    work = [(o, k) for o, k in ready if k is not None]
    modules: set[str] = set()
    for done, (operator, kernel) in enumerate(work):
        if progress is not None:
            progress(operator.name, done, len(work))
        if hasattr(kernel, "derived"):
            _derived(operator, kernel)
            continue
        prepared = getattr(importlib.import_module(kernel.__module__), "warmup", None)
        if prepared is None:
            _by_running(operator)
        elif kernel.__module__ not in modules:
            modules.add(kernel.__module__)
            prepared()
    return [o.name for o, _ in work]
