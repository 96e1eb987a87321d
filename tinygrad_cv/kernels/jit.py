"""`kernel`: the one decorator of CPU kernels.

    from tinygrad_cv.kernels.jit import REDUCTION, helper, kernel, prange

    @helper
    def square(x):                      # may be called by kernels, becomes part of them
        return x * x

    @kernel
    def squares(x, out):                # plain Python over NumPy arrays and numbers
        for i in prange(x.size):
            out[i] = square(x[i])

    squares(x, out)                     # parallel; serial at one thread, in a forked child, inside `threads.serial()`
    squares.serial(x, out)              # the serial twin by name: for work too small to share out (a region costs 1.3 us and more)

A kernel is compiled for the types of its arguments at its first call and kept on disk (see `cache`). Where the prange loop is its last
statement, after nothing but assignments to names, the serial twin and the parallel kernel are one compiled form (see `split`).

Rules for kernels. Module-level functions without closure. One prange for each kernel, as its last statement, whose iterations write to
different places: `r[j] += ...` under prange is a race that nothing reports. Only prange loops run in parallel.
Division by zero gives inf or nan, as in NumPy. Sums that should vectorise ask for `@kernel(fastmath=REDUCTION)`, which lets them
be reordered and keeps NaN and infinity; do not write x + 1e30 - 1e30 there. Such a kernel has no prange, because LLVM would order the
sums of its twins in two ways: `shares.run_shares` runs it in parallel.

Never compiled with nogil. That alone does not keep two Python threads apart: Numba gives up the interpreter lock inside every
prange loop, and one of its threading layers (workqueue) aborts the process when a second thread enters. So parallel kernels
take turns, by a lock of their own; serial twins need none.

This module imports Numba: import it only from modules that are themselves loaded by a kernel path.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, overload

import numba
import numpy as np
from numba import prange
from numba.core import compiler, config, errors
from numba.core.cpu_options import ParallelOptions
from numba.core.serialize import dumps

from . import KernelCompileError, cache, crowding, threads

REDUCTION = frozenset({"reassoc", "nsz", "contract"})
_ALLOWED_FASTMATH = REDUCTION | {"arcp", "afn"}
_SLOW_COMPILE = 1.0
_announced: set[str] = set()
turn = threading.RLock()  # held by the Python thread that is inside a parallel kernel

_config: Any = config
if not os.environ.get("NUMBA_THREADING_LAYER_PRIORITY") and _config.THREADING_LAYER_PRIORITY == ["tbb", "omp", "workqueue"]:
    _config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # an OpenMP region costs 1.3 us, a workqueue's 40


def start_threads() -> None:
    """Starts the threads of parallel kernels, as the first of these does."""
    from numba.np.ufunc import parallel

    parallel._launch_threads()


def _only_prange() -> ParallelOptions:
    """Parallel prange loops and nothing else. An object: Numba empties a dict at the first compilation and then forgets it."""
    options = ParallelOptions(True)
    for name in ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"):
        setattr(options, name, False)
    return options


class _KernelCache:
    """What Numba's dispatcher asks for compiled code: one file for each kernel, variant and signature."""

    def __init__(self, owner: Kernel, variant: str) -> None:
        self.owner, self.variant = owner, variant
        self.compiling = 0
        self._timer: threading.Timer | None = None

    @property
    def cache_path(self) -> str:
        return str(cache.directory())

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    def flush(self) -> None: ...

    def _file(self, signature: Any, codegen: Any) -> str:
        facts = (self.owner.source_key(), self.variant, str(signature), codegen.magic_tuple())
        key = hashlib.sha256(repr(facts).encode()).hexdigest()[:20]
        return f"{self.owner.name}-{self.variant}-{key}.nbc"

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        target_context.refresh()
        payload = cache.load(self._file(signature, target_context.codegen()))
        if payload is not None:
            try:
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
            except Exception as error:  # an unreadable entry is compiled anew and replaced
                warnings.warn(
                    f"{self.owner.name}: cached code was unusable ({error}); compiling again", RuntimeWarning, stacklevel=2
                )
        self.compiling += 1
        if self._timer is None:
            self._timer = threading.Timer(_SLOW_COMPILE, _announce, (self.owner.name, cache.root() is not None))
            self._timer.daemon = True
            self._timer.start()
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        self.finished()
        if result.library.has_dynamic_globals or result.lifted:
            raise TypeError(f"kernel {self.owner.name}: refers to addresses or large global arrays, so it cannot be cached")
        cache.store(self._file(signature, result.codegen), dumps(result._reduce()))

    def finished(self) -> None:
        self.compiling = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _announce(name: str, kept: bool) -> None:
    if name not in _announced:
        _announced.add(name)
        note = "first use; cached afterwards" if kept else "first use"
        print(f"tinygrad_cv: compiling {name} ({note})", file=sys.stderr, flush=True)


def alone() -> bool:
    """Whether a kernel called now by this Python thread must, or had better, do without other threads."""
    local = threads.local
    if local.generation != threads.shared.generation:
        threads.prepare()
    return local.serial or crowding.watch.crowded(crowding.now())


class Kernel:
    """A function compiled for the CPU at its first call, in a parallel and a serial variant; see the module's text."""

    def __init__(self, function: FunctionType, fastmath: frozenset[str], name: str | None = None, split: bool = True) -> None:
        if function.__closure__:
            raise TypeError(f"kernel {function.__qualname__}: a kernel must be a module-level function without closure")
        if not fastmath <= _ALLOWED_FASTMATH:
            raise ValueError(
                f"kernel {function.__qualname__}: fastmath may hold {', '.join(sorted(_ALLOWED_FASTMATH))}, "
                f"got {', '.join(sorted(fastmath - _ALLOWED_FASTMATH))}, which gives wrong results for NaN or infinity"
            )
        if "reassoc" in fastmath and _mentions(function, prange):
            raise TypeError(
                f"kernel {function.__qualname__}: with reordered sums (reassoc) the parallel kernel and its serial twin would differ in "
                "their last bits; leave out prange, let the kernel do one share of the work and call it by kernels.shares.run_shares"
            )
        self.function = function
        self.fastmath = fastmath
        self.name = name or function.__name__.strip("_")
        self.has_prange = _mentions(function, prange)
        self._split = split
        self.__doc__, self.__module__, self.__name__ = function.__doc__, function.__module__, function.__name__
        self.__wrapped__ = function
        self._source_key: str | None = None
        self._caches: dict[str, _KernelCache] = {}
        self._serial: Callable[..., Any] | None = None
        self._parallel: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        try:
            if not self.has_prange or alone():
                return (self._serial or self._make("serial"))(*arguments)
            run = self._parallel or self._make("parallel")
            with turn:
                return run(*arguments)
        except Exception as error:
            self._explain(error, arguments)
            raise

    def serial(self, *arguments: Any) -> Any:
        """Runs the serial twin."""
        try:
            return (self._serial or self._make("serial"))(*arguments)
        except Exception as error:
            self._explain(error, arguments)
            raise

    def _make(self, variant: str) -> Callable[..., Any]:
        """Makes what runs a variant: one entry to a body for both of them (see `split`), or else Numba's own of each."""
        if self.has_prange and self._split and not _config.DISABLE_JIT:
            from .shares import entry_of, in_parallel

            entry = entry_of(self.function, self.fastmath)
            self._split = entry is not None
            if entry is not None:
                self._caches["shared"] = entry._cache = _KernelCache(self, "shared")
                self._serial, self._parallel = partial(entry, 0, 1), partial(in_parallel, entry)
                return self._parallel if variant == "parallel" else self._serial
        options: dict[str, Any] = {"error_model": "numpy", "fastmath": set(self.fastmath), "no_cfunc_wrapper": True}
        if variant == "parallel":
            options["parallel"] = _only_prange()
        dispatcher = numba.njit(**options)(self.function)
        if not isinstance(dispatcher, FunctionType):  # it is one under NUMBA_DISABLE_JIT
            self._caches[variant] = dispatcher._cache = _KernelCache(self, variant)
        if variant == "parallel":
            self._parallel = dispatcher
        else:
            self._serial = dispatcher
        return dispatcher  # type: ignore[no-any-return]

    def address(self, signature: tuple[Any, ...], arguments: tuple[Any, ...], variant: str = "serial") -> int:
        """Where the code of a variant for these Numba types starts; compiled, or loaded, where need be. For calls from other kernels.

        arguments: what an error message describes.
        """
        try:
            dispatcher: Any = (self._serial if variant == "serial" else self._parallel) or self._make(variant)
            dispatcher.compile(signature)
        except Exception as error:
            self._explain(error, arguments)
            raise
        compiled = dispatcher.overloads[signature]
        start: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        return start

    def source_key(self) -> str:
        """A hash of the kernel's code, of every file its helpers come from, and of the constants that they name."""
        if self._source_key is None:
            digest = hashlib.sha256(f"{self.function.__module__}.{self.function.__qualname__} {sorted(self.fastmath)}".encode())
            digest.update(self.function.__code__.co_code + repr(self.function.__code__.co_consts).encode())
            reached = _Reached(self.function)
            digest.update(repr(sorted(reached.constants)).encode())
            for text in sorted(map(_text_of, reached.files)):  # wherever the files lie
                digest.update(text)
            self._source_key = digest.hexdigest()
        return self._source_key

    def _explain(self, error: Exception, arguments: tuple[Any, ...]) -> None:
        """Raises a named KernelCompileError if `error` came from compiling, and leaves errors raised by the kernel alone."""
        compiling = [c for c in self._caches.values() if c.compiling]
        for c in compiling:
            c.finished()
        if isinstance(error, errors.NumbaError) or compiling:
            described = ", ".join(map(_describe, arguments))
            raise KernelCompileError(f"{self.name}: the cpu kernel does not compile for ({described})\n{error}") from error

    def compiled(self) -> dict[str, list[str]]:
        """The signatures in memory, for each variant: what this process compiled or loaded; "shared" is both in one."""
        made: dict[str, Any] = {"parallel": self._parallel, "serial": self._serial}
        if isinstance(self._serial, partial):
            made = {"shared": self._serial.func}
        return {name: [str(s) for s in d.signatures] for name, d in made.items() if d is not None and hasattr(d, "signatures")}

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"


def _mentions(function: FunctionType, wanted: Any) -> bool:
    code = function.__code__
    return any(function.__globals__.get(n) is wanted for n in code.co_names) or "prange" in code.co_names


class _Reached:
    """What the code of a function depends on: source files of helpers and intrinsics, values of constants, reached by its globals."""

    def __init__(self, function: FunctionType) -> None:
        self.files: set[str] = set()
        self.constants: set[str] = set()
        self._seen: set[int] = set()
        self._follow(function)

    def _follow(self, function: FunctionType) -> None:
        if id(function) in self._seen or function.__module__.startswith("numba."):
            return
        self._seen.add(id(function))
        self.files.add(function.__code__.co_filename)
        codes = [function.__code__]
        for code in codes:  # it grows: comprehensions are code of their own
            codes += [c for c in code.co_consts if isinstance(c, CodeType)]
            for name in code.co_names:
                self._look(name, function.__globals__.get(name), code.co_names)

    def _look(self, name: str, value: Any, names: tuple[str, ...]) -> None:
        reached = getattr(value, "py_func", None) or getattr(value, "_defn", None) or value
        if isinstance(reached, FunctionType):
            self._follow(reached)
        elif isinstance(value, ModuleType):
            if value.__name__.partition(".")[0] not in ("numpy", "math", "numba"):
                for attribute in names:
                    self._look(f"{name}.{attribute}", getattr(value, attribute, None), ())
        elif isinstance(value, tuple):
            for i, part in enumerate(value):
                self._look(f"{name}[{i}]", part, names)
        elif isinstance(value, np.ndarray):
            self.constants.add(f"{name} {value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}")
        elif isinstance(value, (int, float, complex, str, np.generic, np.dtype)):
            self.constants.add(f"{name} {value!r}")


_texts: dict[str, bytes] = {}


def _text_of(path: str) -> bytes:
    if path not in _texts:
        try:
            content = Path(path).read_bytes()
        except OSError:  # generated text, notebooks: linecache knows what the file system does not
            import linecache

            content = "".join(linecache.getlines(path)).encode()
        _texts[path] = hashlib.sha256(content).digest()
    return _texts[path]


def set_source(path: str, text: str) -> None:
    """Says what of the generated file `path` counts in cache keys: `text`, which is the file without its comments."""
    _texts[path] = hashlib.sha256(text.encode()).digest()


def _describe(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "flags"):
        layout = "C" if value.flags.c_contiguous else "F" if value.flags.f_contiguous else "strided"
        return f"{value.dtype}{list(value.shape)} {layout}"
    return f"{type(value).__name__} {value!r}" if isinstance(value, (int, float, bool, str)) else type(value).__name__


@overload
def kernel(function: Callable[..., Any], /) -> Kernel: ...


@overload
def kernel(*, fastmath: frozenset[str] | set[str] = ..., name: str | None = ...) -> Callable[[Callable[..., Any]], Kernel]: ...


def kernel(
    function: Callable[..., Any] | None = None, /, *, fastmath: frozenset[str] | set[str] = frozenset(), name: str | None = None
) -> Any:
    """Makes a kernel of a module-level function.

    fastmath: LLVM flags, at most REDUCTION = {"reassoc", "nsz", "contract"} and {"arcp", "afn"}; none by default, and never those
    under which NaN and infinity go wrong. name: what messages and cache files call it; the function's name if not given.

    Raises TypeError for a closure, ValueError for other flags. Calling the kernel raises KernelCompileError (a RuntimeError), naming it,
    the device and the arguments, if it does not compile.
    """
    if function is not None:
        if not inspect.isfunction(function):
            raise TypeError(f"kernel: expected a function, got {type(function).__name__}")
        return Kernel(function, frozenset(), name)
    return lambda f: Kernel(f, frozenset(fastmath), name)


def helper(function: Callable[..., Any] | None = None, /, *, fastmath: frozenset[str] | set[str] = frozenset()) -> Any:
    """Makes a function that kernels (and helpers) may call; it is compiled into them. Its file counts in their cache key."""
    if function is None:
        return lambda f: helper(f) if not fastmath else _helper(f, fastmath)
    return _helper(function, frozenset())


def _helper(function: Any, fastmath: frozenset[str] | set[str]) -> Any:
    """No entry for calls from Python, which is half of what compiling a small function costs; such a call raises TypeError."""
    options: dict[str, Any] = {"forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made = numba.njit(error_model="numpy", fastmath=set(fastmath), **options)(function)
    if not isinstance(made, FunctionType):  # it is one under NUMBA_DISABLE_JIT

        def refuse(*arguments: Any, **keywords: Any) -> None:
            raise TypeError(f"helper {function.__name__}: only kernels and other helpers can call it; from Python use .py_func")

        made._insert = lambda *overload: None  # what a call from Python looks through
        made._compile_for_args = refuse
    return made


__all__ = ["REDUCTION", "Kernel", "helper", "kernel", "prange"]
