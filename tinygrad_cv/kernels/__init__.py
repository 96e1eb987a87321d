"""Kernels: where Numba is imported, compiled code is cached, and its absence becomes one sentence.

    jit          the decorator of kernels, their serial twins, their errors
    threads      how many threads they use, forks            cache      where compiled code is kept
    shares       parallel work whose body is compiled once   split      a prange loop as such a body
    memory       results' memory, used again; its figures
    formula      an operator's scalar expression as text     loops      text to loops, one file for each
    elementwise  which calls of elementwise operators go to such a loop
    fusion       a backward rule traced into one loop        ahead      compiling ahead
    math32, math64, doubles, mathany, intrinsics             the functions that kernels may call

`resolve` is what the registry calls at an operator's first use. Nothing here imports Numba before a kernel is needed.
`TINYGRAD_CV_JIT=0` in the environment, or `with tg.kernels.disabled():`, leaves the NumPy references.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .cache import cache_info, clear_cache
from .threads import describe as thread_info
from .threads import get_num_threads, serial, set_num_threads

if TYPE_CHECKING:
    from ..registry import Operator

_enabled = os.environ.get("TINYGRAD_CV_JIT", "1") != "0"
_numba_problem: str | None = None
_numba_checked = False


class KernelCompileError(RuntimeError):
    """A kernel does not compile for the arguments it was given, or cannot be imported; nothing was computed."""


def numba_available() -> bool:
    """Whether Numba can be imported; says once why not. Imports it at the first call."""
    global _numba_checked, _numba_problem
    if not _numba_checked:
        _numba_checked = True
        try:
            import numba  # noqa: F401
        except Exception as error:
            _numba_problem = f"{type(error).__name__}: {error}"
            warnings.warn(
                f"Numba could not be imported ({_numba_problem}): tinygrad_cv computes with NumPy alone, which is slower; "
                "pip install 'tinygrad_cv[jit]'",
                RuntimeWarning,
                stacklevel=2,
            )
    return _numba_problem is None


def enabled() -> bool:
    """Whether kernels are in use (they are not with TINYGRAD_CV_JIT=0 or inside `disabled()`)."""
    return _enabled


@contextmanager
def disabled() -> Iterator[None]:
    """Operators inside the block compute with their NumPy references."""
    global _enabled
    before, _enabled = _enabled, False
    _forget()
    try:
        yield
    finally:
        _enabled = before
        _forget()


def _forget() -> None:
    from ..registry import operators

    for operator in operators(plugins=False):
        operator.forget_kernels()


def resolve(operator: Operator, path: Any, device: str) -> Callable[..., Any] | None:
    """The kernel of `operator` for `device`: given, imported from 'module:function', derived, or None."""
    if not _enabled:
        return None
    if path is None:
        if device == "cpu" and operator.elementwise and operator.scalar is not None:
            from .elementwise import derive

            return derive(operator)
        return None
    if callable(path):
        return path
    module, _, name = path.partition(":")
    try:
        imported = importlib.import_module(module)
        kernel: Callable[..., Any] = getattr(imported, name)
    except Exception as error:
        if numba_available():
            raise KernelCompileError(
                f"{operator.name} (from {operator.provider}): its {device} kernel {path} cannot be imported: {type(error).__name__}: "
                f"{error}\n{_WITHOUT}"
            ) from error
        return None
    return kernel


_WITHOUT = "TINYGRAD_CV_JIT=0 or `with tg.kernels.disabled():` computes with the NumPy references instead"


def name_failure(operator: Operator, device: str, arrays: Iterable[Any], error: Exception) -> None:
    """Called with what a kernel raised: raises KernelCompileError, which names the operator, its package, the device and the types,
    if it did not compile; else notes a plugin's operator and package on the error, which the caller raises again."""
    if isinstance(error, KernelCompileError):
        raise KernelCompileError(
            f"{operator.name} (from {operator.provider}), {device}: kernel {error}\n{_WITHOUT}"
        ) from error.__cause__
    if type(error).__module__.startswith("numba."):  # of a function compiled by Numba itself
        given = ", ".join(f"{a.dtype}{list(a.shape)}" if hasattr(a, "dtype") else repr(a) for a in arrays)
        raise KernelCompileError(
            f"{operator.name} (from {operator.provider}), {device}: its kernel does not compile for ({given})\n{error}\n{_WITHOUT}"
        ) from error
    if operator.provider != "tinygrad_cv":
        error.add_note(f"raised by the {device} kernel of operator {operator.name!r} (from {operator.provider})")


def warmup(names: Iterable[str] | None = None, progress: Callable[[str, int, int], None] | None = None) -> list[str]:
    """Compiles the kernels of operators ahead of time, for float32, and keeps them on disk. See `kernels.ahead.run`."""
    from .ahead import run

    return run(names, progress)


def fused_gradient(operator: Operator, index: int, attributes: tuple[Any, ...], numbers: tuple[Any, ...] = ()) -> Any:
    """The backward rule of an elementwise operator as one loop, or None. See `kernels.fusion.fused_gradient`."""
    from .fusion import fused_gradient

    return fused_gradient(operator, index, attributes, numbers) if _enabled else None


__all__ = [
    "KernelCompileError", "cache_info", "clear_cache", "disabled", "enabled", "fused_gradient", "get_num_threads", "name_failure",
    "numba_available", "resolve", "serial", "set_num_threads", "thread_info", "warmup",
]  # fmt: skip
