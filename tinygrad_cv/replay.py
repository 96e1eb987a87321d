"""What a compiled plan must do again besides kernels: random numbers, running statistics, optimizer steps, choices by values.

A plan (see `compiler`) runs the operators it recorded and no other Python. A function under `replayable` is recorded as one step of
its own: the plan calls it again, in its place, with the values its tensors have then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ._state import state

F = TypeVar("F", bound=Callable[..., Any])


@overload
def replayable(function: F, /) -> F: ...


@overload
def replayable(*, local: bool) -> Callable[[F], F]: ...


def replayable(function: Any = None, /, *, local: bool = False) -> Any:
    """Marks a function whose work operators do not record, and that plans call again. It must follow from its arguments and from
    state that lives outside of the call (generators, optimizers, buffers).

    Its tensor results are values of the graph without history. What it writes in place must be among its arguments or, unless
    `local`, belong to an object among them (an optimizer's parameters).
    """
    if function is None:
        return functools.partial(_replayable, local=local)
    return _replayable(function, local)


def _replayable(function: Callable[..., Any], local: bool) -> Callable[..., Any]:
    function.local = local  # type: ignore[attr-defined]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        capture = state.capture
        return function(*args, **kwargs) if capture is None else capture.call(function, args, kwargs)

    return call


def left(tensor: Any, how: str) -> None:
    """Tells a recording that values leave the graph, for where no operator or `replayable` function can follow."""
    if state.capture is not None:
        state.capture.left(tensor, how)


def choose(predicate: Callable[..., Any], *arrays: Any) -> bool:
    """bool(predicate(*arrays)), for the Python of a kernel that picks its way by the values of arrays.

    A compiled plan, which repeats the kernel calls of one run, asks again each time, and if the answer differs calls the operator whole.
    """
    answer = bool(predicate(*arrays))
    if state.launches is not None:
        state.launches.append((choose, (predicate, arrays, answer)))
    return answer
