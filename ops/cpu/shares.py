"""Parallel work whose body is compiled once.

Numba compiles what stands inside a prange loop, and everything it calls, about four times over: for the loop's function, its
wrapper and the kernel around them. For a body of some size that is seconds. Here the body is a kernel of its own, without prange,
that does one share of the work; a small parallel kernel calls it by its address, once for each share.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.jit import Kernel, kernel, prange


@intrinsic
def call_share(typing_context, address, share, a, b, c, d, job, layout, phases, offsets):
    """Calls the compiled function at `address`, whose arguments have the types of the others, and which returns nothing."""
    arguments = (types.int64, a, b, c, d, job, layout, phases, offsets)

    def codegen(context, builder, signature, args):
        function_type = context.call_conv.get_function_type(types.none, arguments)
        function = builder.inttoptr(args[0], function_type.as_pointer())
        status, _ = context.call_conv.call_function(builder, function, types.none, arguments, args[1:])
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(types.int64, *arguments), codegen


@kernel
def call_shares(address, shares, a, b, c, d, job, layout, phases, offsets):
    """Calls the function at `address` for share 0 ... shares - 1."""
    for share in prange(shares):
        call_share(address, np.int64(share), a, b, c, d, job, layout, phases, offsets)


_addresses: dict[tuple[Kernel, np.dtype], int] = {}


def _address(body: Kernel, arguments: tuple[np.ndarray, ...]) -> int:
    """Where the compiled `body` starts; it is compiled, or loaded from the cache, at the first call for a dtype."""
    key = (body, arguments[0].dtype)
    if key not in _addresses:
        signature = tuple(numba.typeof(a) for a in (0, *arguments))
        try:
            dispatcher: Any = body._serial or body._make("serial")
            dispatcher.compile(signature)
            compiled = dispatcher.overloads[signature]
        except Exception as error:
            body._explain(error, arguments)
            raise
        _addresses[key] = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return _addresses[key]


def run_shares(body: Kernel, shares: int, *arguments: np.ndarray) -> None:
    """Runs body(share, *arguments) for every share, in parallel where there are several.

    arguments: four flat arrays of one floating dtype, then three int64 arrays of 1, 1 and 2 axes and one of 1 axis; contiguous and
    writeable, so that one compiled body serves all calls. Shares must write to different places.
    """
    if shares == 1:
        body.serial(0, *arguments)
    else:
        call_shares(_address(body, arguments), shares, *arguments)
