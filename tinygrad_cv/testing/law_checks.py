"""The laws that operators declare (tinygrad_cv/laws.py), checked on drawn calls."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._tensor import Tensor, wrap
from ..autograd.modes import no_grad
from ..laws import Law
from ..random import manual_seed
from ..registry import get
from .samples import Sample, agree, results

if TYPE_CHECKING:
    from . import OpResult

_TOLERANCE = 1e-9


class SampleTrial:
    """`tinygrad_cv.laws.Trial` of one sample; see there."""

    def __init__(self, sample: Sample, law: Law) -> None:
        self.sample, self.law, self.compared = sample, law, 0
        bound = type(sample.bound)(sample.operator.signature, dict(sample.bound.arguments))  # type: ignore[arg-type]
        bound.apply_defaults()
        self.bound = bound
        tensors = sample.operator.tensor_params
        self.values: dict[str, Any] = {
            name: _plain(value) if name in tensors else value for name, value in bound.arguments.items()
        }
        self._rng = np.random.default_rng([sample.seed % 2**32, zlib.crc32(repr(law).encode())])

    def apply(self, **changed: Any) -> list[np.ndarray]:
        """The operator's results, with some arguments changed."""
        operator = self.sample.operator
        arguments = {**self.values, **changed}
        for name in operator.tensor_params:
            arguments[name] = _tensors(arguments[name])
        call = type(self.bound)(operator.signature, arguments)  # type: ignore[arg-type]
        if operator.random:
            manual_seed(self.sample.seed)
        with no_grad(), np.errstate(all="ignore"):
            return _arrays(operator.function(*call.args, **call.kwargs))

    def ask(self, function: Callable[..., Any], **more: Any) -> Any:
        """`function`, called with the arguments it asks for by name."""
        known = {**self.values, **more}
        names = list(inspect.signature(function).parameters)
        missing = [n for n in names if n not in known]
        if missing:
            raise TypeError(
                f"{self.law!r} asks for {', '.join(map(repr, missing))}, which {self.sample.operator.name} has not; there are "
                f"{', '.join(known)}"
            )
        return function(*(known[n] for n in names))

    def call(self, operator: str, *args: Any, **kwargs: Any) -> list[np.ndarray]:
        """The results of another operator."""
        with no_grad(), np.errstate(all="ignore"):
            return _arrays(get(operator).function(*map(_tensors, args), **{k: _tensors(v) for k, v in kwargs.items()}))

    def random(self, like: Any) -> Any:
        """Random numbers in (-2, 2) of the shape of `like`; for a list, a list."""
        if isinstance(like, (list, tuple)):
            return [self.random(v) for v in like]
        return np.asarray(self._rng.uniform(-2, 2, np.shape(like)))

    def agree(self, got: Sequence[Any], expected: Sequence[Any], what: str = "") -> None:
        """Counts a comparison; AssertionError where the values differ."""
        agree(what or "results", list(got), list(expected), _TOLERANCE)
        self.compared += 1


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else value


def _tensors(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and any(isinstance(v, (np.ndarray, np.generic)) for v in value):
        return type(value)([_tensors(v) for v in value])
    return wrap(np.array(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def _arrays(value: Any) -> list[np.ndarray]:
    given = value if isinstance(value, (tuple, list)) else [value]
    return [v for v in results([t for t in given if isinstance(t, Tensor)]) if v is not None]


def check_laws(sample: Sample, result: OpResult) -> None:
    """The laws that the operator declares, where they say that they hold."""
    for law in sample.operator.laws:
        check_law(law, sample, result)


def holds_for(law: Law, sample: Sample) -> bool:
    """Whether the law says that it holds for this call."""
    return law.when is None or bool(SampleTrial(sample, law).ask(law.when))


def check_law(law: Law, sample: Sample, result: OpResult) -> None:
    """One law on one call. AssertionError with the law, its formula and the first element that differs."""
    trial = SampleTrial(sample, law)
    if any(trial.values.get(p) is None for p in law.parameters):
        return
    try:
        if law.when is not None and not trial.ask(law.when):
            return
        law.check(trial)
    except Exception as error:
        reason = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        raise AssertionError(f"the law {law!r} does not hold, {law.formula}: {reason}") from error
    result.count(key(law), trial.compared)


def key(law: Law) -> str:
    """The name under which a law's comparisons are counted."""
    return f"law {law!r}"


__all__ = ["SampleTrial", "check_law", "check_laws", "holds_for", "key"]
