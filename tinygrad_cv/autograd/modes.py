"""Switches of the autograd engine: context managers that are also decorators, one value per thread."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self, TypeVar, overload

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
        return _decorated(function, self._values, type(self).__name__)


def _under(values: dict[str, bool], function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """The result of a call with these attributes of the state set."""
    outer = {name: getattr(state, name) for name in values}
    for name, value in values.items():
        setattr(state, name, value)
    try:
        return function(*args, **kwargs)
    finally:
        for name, value in outer.items():
            setattr(state, name, value)


def _decorated(function: F, values: dict[str, bool], switch: str) -> F:
    """`function` running under the switch; of a generator function every step, so that its caller keeps the state of its own."""
    if isinstance(function, type):
        raise TypeError(f"{switch}: decorate the methods of {function.__name__}, such as its __init__, not the class")
    if not callable(function):
        raise TypeError(f"{switch}: expected a function to decorate, got {type(function).__name__}; use `with {switch}():`")

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _under(values, function, *args, **kwargs)

    @functools.wraps(function)
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = function(*args, **kwargs)
        resume, given = inner.send, None
        while True:
            try:
                item = _under(values, resume, given)
            except StopIteration as done:
                return done.value
            try:
                resume, given = inner.send, (yield item)
            except GeneratorExit:
                _under(values, inner.close)
                raise
            except BaseException as error:
                resume, given = inner.throw, error

    return generator if inspect.isgeneratorfunction(function) else wrapped  # type: ignore[return-value]


class _PlainSwitch(_Switch):
    """A switch without settings, which decorates with parentheses or without: `@no_grad()`, `@no_grad`."""

    _recording: bool

    @overload
    def __new__(cls, function: None = None) -> Self: ...
    @overload
    def __new__(cls, function: F) -> F: ...  # type: ignore[misc]
    def __new__(cls, function: Any = None) -> Any:
        return (
            super().__new__(cls) if function is None else _decorated(function, {"grad_enabled": cls._recording}, cls.__name__)
        )

    def __init__(self, function: Any = None) -> None:
        super().__init__()
        self._values = {"grad_enabled": self._recording}


class no_grad(_PlainSwitch):
    """Operators inside are not recorded: no nodes are built and results do not require grad.

    A context manager, and a decorator of functions, methods and generator functions: `with no_grad():`, `@no_grad()`, `@no_grad`.
    """

    _recording = False


class enable_grad(_PlainSwitch):
    """Operators inside are recorded, also within `no_grad`. Used as `no_grad` is."""

    _recording = True


class inference_mode(_Switch):
    """As `no_grad`, and results may never enter a recorded computation (that raises RuntimeError). mode=False: no change."""

    @overload
    def __new__(cls, mode: bool = True) -> Self: ...
    @overload
    def __new__(cls, mode: F) -> F: ...  # type: ignore[misc]
    def __new__(cls, mode: Any = True) -> Any:
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def __init__(self, mode: Any = True) -> None:
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


class set_detect_anomaly(_Switch):
    """Switches `detect_anomaly` on or off: at once as a call, and until the end of the block as a context manager."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        super().__init__()
        self._values = {"anomaly": bool(mode and check_nan)}
        self._before = state.anomaly
        state.anomaly = self._values["anomaly"]

    def __enter__(self) -> set_detect_anomaly:
        self._outer.append({"anomaly": self._before})
        state.anomaly = self._values["anomaly"]
        return self

    def __call__(self, function: F) -> F:
        state.anomaly = self._before
        return super().__call__(function)


def is_anomaly_enabled() -> bool:
    """Whether backward checks every gradient in this thread, see `detect_anomaly`."""
    return state.anomaly


def is_grad_enabled() -> bool:
    """Whether operators are recorded in this thread."""
    return state.grad_enabled


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return state.inference
