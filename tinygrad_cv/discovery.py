"""Finds the operators that installed packages offer, and keeps what goes wrong in one of them away from all the others.

`registry.discover` calls `load_all` when somebody asks for an operator that no loaded package has, or for all of them. A plugin that
raises, exits, takes a taken name, was built for another version of `tinygrad_cv.extend` or does not finish importing in time is
skipped with one warning that names it; what it had registered until then goes again, and what it had replaced comes back.

A package is imported in the Python thread that asked, because imports in another thread can deadlock with one that is under way. The
time limit therefore interrupts that thread, which Python can do between two bytecodes and, in the main thread of a Unix process, also
in calls that wait (sleep, locks, sockets). Nothing can interrupt an extension module that loops in C: then a line on standard error
says which plugin it is and how to start without it.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import registry
from .declaration import Operator

SECONDS = 60.0
_GRACE = 5  # interruptions, one a second, before standard error says that they do not help
_turn = threading.RLock()
_loading = False
_failed: dict[str, str] = {}


def time_limit_seconds() -> float:
    """TINYGRAD_CV_PLUGIN_TIMEOUT, or 60; infinity for 0. ValueError for what is no number of seconds."""
    text = os.environ.get("TINYGRAD_CV_PLUGIN_TIMEOUT", "").strip()
    try:
        seconds = float(text) if text else SECONDS
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ValueError(f"TINYGRAD_CV_PLUGIN_TIMEOUT must be a number of seconds, 0 for no limit; got {text!r}")
    return seconds or math.inf


def load_all(only_failed: bool) -> list[str] | None:
    """Loads every plugin that is installed, or tries again those that failed. Returns what to warn of; None if that is under way."""
    global _loading
    seconds = time_limit_seconds()
    if not _turn.acquire(timeout=-1 if math.isinf(seconds) else 2 * seconds):
        return None  # another Python thread is loading them, and waits for something: perhaps for this one
    try:
        if _loading:  # a plugin that is being imported asks for an operator
            return None
        _loading = True
        try:
            return _load(seconds, only_failed)
        finally:
            _loading = False
    finally:
        _turn.release()


def _load(seconds: float, only_failed: bool) -> list[str]:
    points = [(p, _owner(p)) for p in importlib.metadata.entry_points(group=registry.ENTRY_POINT_GROUP)]
    skipped = {name.strip() for name in os.environ.get("TINYGRAD_CV_SKIP_PLUGINS", "").split(",")}
    owners = {_top(point): owner for point, owner in points}
    problems = []
    for point, owner in points:
        key = f"{owner}:{point.name}"
        if skipped & {"*", owner, point.name} or (only_failed and key not in _failed):
            continue
        problem = _load_one(point, owner, owners, seconds)
        if problem is None:
            _failed.pop(key, None)
        else:
            _failed[key] = problem
            problems.append(f"the operator plugin {point.name!r} of package {owner!r} was skipped: {problem}")
    return problems


def _owner(point: importlib.metadata.EntryPoint) -> str:
    return (point.dist.name if point.dist is not None else None) or _top(point)


def _top(point: importlib.metadata.EntryPoint) -> str:
    return point.value.partition(":")[0].split(".")[0].strip()


def _load_one(point: importlib.metadata.EntryPoint, owner: str, owners: dict[str, str], seconds: float) -> str | None:
    """Imports a plugin and calls what its entry point names; the reason if it cannot be used, and then no trace of it is left."""
    before, modules = dict(registry._operators), set(sys.modules)

    def stuck() -> None:
        print(
            f"tinygrad_cv: the operator plugin {point.name!r} of package {owner!r} takes longer than {seconds:g} s to import and is in a "
            f"call that Python cannot interrupt; to start without it: TINYGRAD_CV_SKIP_PLUGINS={owner}",
            file=sys.stderr,
            flush=True,
        )

    registry._plugin.owner, registry._plugin.owners = owner, owners
    done = False
    try:
        with _time_limit(seconds, stuck):
            loaded = point.load()
            if callable(loaded) and not isinstance(loaded, Operator):
                loaded()
        done = True
        return None
    except _TimeIsUp:
        return f"it takes longer than {seconds:g} s to import; TINYGRAD_CV_PLUGIN_TIMEOUT sets the limit in seconds, 0 for none"
    except (Exception, SystemExit) as error:
        return _reason(error)
    finally:
        registry._plugin.owner, registry._plugin.owners = None, {}
        if not done:
            registry._restore(before, owner)
            for name in set(sys.modules) - modules:  # else modules that did import would not register again on reload
                if name.split(".")[0] == _top(point):
                    del sys.modules[name]


def _reason(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, ImportError) and error.name == f"{__package__}.extend":
        text += (
            f"; this tinygrad_cv has version {registry.API_VERSION} of the plugin API, and the plugin does not say which it was built for "
            "(tinygrad_cv.extend.require_api)"
        )
    here = os.path.dirname(os.path.abspath(__file__))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((here, "<frozen", "<string"))]
    own = [f for f in frames if f"importlib{os.sep}" not in f.filename]
    return f"{text} ({own[-1].filename}, line {own[-1].lineno})" if own else text


class _TimeIsUp(BaseException):
    """Raised in the thread that imports a plugin. No Exception, so that a plugin that tries again and again does not catch it."""


@contextmanager
def _time_limit(seconds: float, stuck: Callable[[], None]) -> Iterator[None]:
    """Raises _TimeIsUp in the block after `seconds`, and again every second until it ends; calls `stuck` where that does not help."""
    if math.isinf(seconds):
        yield
        return
    watch = _Watch(seconds, stuck)
    try:
        try:
            yield
        finally:
            watch.over = True
    finally:  # an interruption may have come between the block and the line above; the next is a second away
        watch.over = True
        watch.end()


class _Watch:
    """A Python thread that interrupts the one which made it, until `end`."""

    def __init__(self, seconds: float, stuck: Callable[[], None]) -> None:
        self.seconds, self.stuck = seconds, stuck
        self.watched = threading.get_ident()
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.interruptions = 0
        self.over = False
        self.signal: int | None = None
        self.before: Any = None
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGURG"):
            try:
                self.before = signal.signal(signal.SIGURG, self._on_signal)  # a signal that is ignored where nobody asks for it
                self.signal = signal.SIGURG
            except ValueError:  # the main thread of a sub-interpreter
                pass
        try:
            threading.Thread(target=self._watch, name="tinygrad_cv plugin watch", daemon=True).start()
        except RuntimeError:  # no threads here (WebAssembly), so no limit
            self.ended.set()

    def _watch(self) -> None:
        wait = self.seconds
        while not self.ended.wait(wait):
            wait = 1.0
            with self.lock:
                if self.over:
                    return
                self.interruptions += 1
                if self.signal is not None:
                    signal.pthread_kill(self.watched, self.signal)
                else:
                    _raise_in(self.watched, _TimeIsUp)
            if self.interruptions == _GRACE:
                self.stuck()

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.interruptions and not self.over:
            raise _TimeIsUp
        if callable(self.before):
            self.before(number, frame)

    def end(self) -> None:
        """Stops watching. An interruption that is on its way is let pass."""
        while not self.ended.is_set():
            try:
                with self.lock:
                    self.ended.set()
                    if self.interruptions and self.signal is None:
                        _raise_in(self.watched, None)
            except _TimeIsUp:
                continue
        if self.signal is not None:
            signal.signal(self.signal, self.before if self.before is not None else signal.SIG_DFL)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Has `error` raised in a Python thread before its next bytecode; None takes back what has not been raised yet."""
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else ctypes.py_object())


def failed() -> dict[str, str]:
    """Why each plugin that was found could not be loaded, by 'package:entry point'."""
    return dict(_failed)


__all__ = ["SECONDS", "failed", "load_all", "time_limit_seconds"]
