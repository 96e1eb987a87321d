"""Switches of the autograd engine: context managers that are also decorators, one value per thread."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from .._state import state

F = TypeVar("F", bound=Callable[..., Any])


class _Switch:
    """Sets attributes of the thread's state for the length of a `with` block, or of a decorated call."""

    _values: dict[str, bool]  # attributes of the state and what they are set to

    def __init__(self) -> None:
        self._outer: list[dict[str, Any]] = []

    def __enter__(self) -> _Switch:
        self._outer.append({name: getattr(state, name) for name in self._values})
        for name, value in self._values.items():
            setattr(state, name, value)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name, value in self._outer.pop().items():
            setattr(state, name, value)

    def __call__(self, function: F) -> F:
        values = self._values

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            outer = {name: getattr(state, name) for name in values}
            for name, value in values.items():
                setattr(state, name, value)
            try:
                return function(*args, **kwargs)
            finally:
                for name, value in outer.items():
                    setattr(state, name, value)

        return wrapped  # type: ignore[return-value]


class no_grad(_Switch):
    """Operators inside are not recorded: no nodes are built and results do not require grad."""

    def __init__(self) -> None:
        super().__init__()
        self._values = {"grad_enabled": False}


class enable_grad(_Switch):
    """Operators inside are recorded, also within `no_grad`."""

    def __init__(self) -> None:
        super().__init__()
        self._values = {"grad_enabled": True}


class inference_mode(_Switch):
    """As `no_grad`, and results may never enter a recorded computation (that raises RuntimeError)."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self._values = {"grad_enabled": False, "inference": True} if mode else {}


class set_grad_enabled(_Switch):
    """Switches recording on or off: at once as a call, and until the end of the block as a context manager."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self._values = {"grad_enabled": bool(mode)}
        self._before = state.grad_enabled
        state.grad_enabled = bool(mode)

    def __enter__(self) -> set_grad_enabled:
        self._outer.append({"grad_enabled": self._before})
        state.grad_enabled = self._values["grad_enabled"]
        return self

    def __call__(self, function: F) -> F:
        state.grad_enabled = self._before
        return super().__call__(function)


class detect_anomaly(_Switch):
    """Backward checks every gradient: the first NaN raises RuntimeError with the operator and the user's line that called it."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__()
        self._values = {"anomaly": bool(check_nan)}


def is_grad_enabled() -> bool:
    """Whether operators are recorded in this thread."""
    return state.grad_enabled


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return state.inference
