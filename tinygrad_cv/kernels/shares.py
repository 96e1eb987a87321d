"""Parallel work whose body is compiled once, and so gives the same bits however it is shared out.

    @kernel(fastmath=REDUCTION)
    def row_sums(x, out, shares, share):          # no prange: does one share of the rows
        for r in range(*span(len(x), shares, share)):
            ...

    run_shares(row_sums, shares, x, out, shares)  # row_sums(x, out, shares, 0), row_sums(x, out, shares, 1), ...

Numba compiles what stands inside a prange loop anew for each variant of a kernel. Where sums may be reordered (REDUCTION), LLVM can choose
another order in each, so that the parallel kernel and its serial twin differ in the last bit. Here the body is a kernel of its own;
a small parallel kernel calls its one compiled form by its address, once for each share. It also saves the seconds that the body would
cost several times over.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from . import threads
from .jit import Kernel, helper, kernel, prange  # noqa: F401  (the text of _CALLER uses prange)


@intrinsic
def call_share(typing_context, address, share, given):
    """Calls the compiled function at `address`, whose arguments are those `given` and the share, and which returns nothing."""
    arguments = (*given.types, types.int64)

    def codegen(context, builder, signature, args):
        function_type = context.call_conv.get_function_type(types.none, arguments)
        function = builder.inttoptr(args[0], function_type.as_pointer())
        values = [*cgutils.unpack_tuple(builder, args[2]), args[1]]
        status, _ = context.call_conv.call_function(builder, function, types.none, arguments, values)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, given), codegen


_CALLER = """
def call_shares(address, shares, {names}):
    for share in prange(shares):
        call_share(address, np.int64(share), ({names},))
"""


@cache
def _caller(count: int) -> Kernel:
    """The kernel (address, shares, *arguments) that calls the function at `address` with `count` arguments for share 0 ... shares - 1.

    One for each count, because a call with *arguments takes Numba 2 us longer to dispatch.
    """
    scope = dict(globals())
    exec(compile(_CALLER.format(names=", ".join(f"a{i}" for i in range(count))), __file__, "exec"), scope)
    return kernel(name=f"call_shares_{count}")(scope["call_shares"])


@helper
def span(count, shares, share):
    """The first of `count` things that belong to a share and the one after its last: parts of equal length, but for one thing."""
    return count * share // shares, count * (share + 1) // shares


_addresses: dict[tuple[Kernel, np.dtype], int] = {}


def _address(body: Kernel, arguments: tuple[Any, ...]) -> int:
    """Where the compiled `body` starts; it is compiled, or loaded from the cache, at the first call for a dtype."""
    key = (body, arguments[0].dtype)
    if key not in _addresses:
        signature = tuple(numba.typeof(a) for a in (*arguments, 0))
        try:
            dispatcher: Any = body._serial or body._make("serial")
            dispatcher.compile(signature)
            compiled = dispatcher.overloads[signature]
        except Exception as error:
            body._explain(error, arguments)
            raise
        _addresses[key] = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return _addresses[key]


def run_shares(body: Kernel, shares: int, *arguments: Any) -> None:
    """Runs body(*arguments, share) for every share, in parallel where there are several.

    arguments: arrays, contiguous and writeable (see `plain`), the first of a floating dtype that settles the types of the others, and
    numbers, always int, float or bool. Shares must write to different places.
    """
    if shares == 1 or config.DISABLE_JIT:
        for share in range(shares):
            body.serial(*arguments, share)
    else:
        _caller(len(arguments))(_address(body, arguments), shares, *arguments)


def share_count(work: int, enough: int) -> int:
    """Into how many shares to cut work: one below `enough`, for which a parallel region costs more than it saves."""
    return 1 if work < enough else threads.get_num_threads()


def plain(array: np.ndarray, shape: int | tuple[int, ...] = -1) -> np.ndarray:
    """The array contiguous, writeable and in one axis, or another shape, as `run_shares` wants it; a copy only where it must be."""
    array = np.ascontiguousarray(array).reshape(shape)
    return array if array.flags.writeable else array.copy()


__all__ = ["plain", "run_shares", "share_count", "span"]
