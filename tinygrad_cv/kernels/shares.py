"""Parallel work whose body is compiled once, and so gives the same bits however it is shared out.

    @kernel(fastmath=REDUCTION)
    def row_sums(x, out, shares, share):          # no prange: does one share of the rows
        for r in range(*span(len(x), shares, share)):
            ...

    run_shares(row_sums, shares, x, out, shares)  # row_sums(x, out, shares, 0), row_sums(x, out, shares, 1), ...

Numba compiles what stands inside a prange loop anew for each variant of a kernel. Where sums may be reordered (REDUCTION), LLVM can choose
another order in each, so that the parallel kernel and its serial twin differ in the last bit. Here the body is a kernel of its own,
and one compiled form of it serves every number of shares and threads.

Compiling a prange loop costs a third of a second, so there is one for all bodies: `region`, whose iteration i is a call of a compiled
function (a task) with two integers, the place of its arguments and i. A small serial kernel for each kind of arguments (`entry_N`)
puts them on its stack, next to a task that takes them from there and calls the body, and enters the region.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from . import threads
from .jit import Kernel, alone, helper, kernel, prange, turn
from .split import share_form

_TASK = (types.int64, types.int64)  # the place of the arguments, the share


def _call(context, builder, address, kinds, values):
    """Emits a call of the function at `address`, which returns nothing; its error becomes the caller's."""
    function = builder.inttoptr(address, context.call_conv.get_function_type(types.none, kinds).as_pointer())
    status, _ = context.call_conv.call_function(builder, function, types.none, kinds, values)
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)


@intrinsic
def call_share(typing_context, address, share, given):
    """Calls the compiled function at `address`, whose arguments are those `given` and the share, and which returns nothing."""
    kinds = (*given.types, types.int64)

    def codegen(context, builder, signature, args):
        _call(context, builder, args[0], kinds, [*cgutils.unpack_tuple(builder, args[2]), args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, given), codegen


def _borrowed(context, builder, given, values):
    """The tuple `values` of Numba types `given`, its arrays without their owner, which the caller keeps.

    A body would count up and down the users of an array at every row it takes, in one place in memory that its threads would fight for.
    """
    for i, kind in enumerate(given.types):
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, value=builder.extract_value(values, i))
            array.meminfo, array.parent = (cgutils.get_null_value(owner.type) for owner in (array.meminfo, array.parent))
            values = builder.insert_value(values, array._getvalue(), i)
    return values


def _store_arguments(builder, values):
    """Puts values on the stack side by side; returns their place."""
    place = cgutils.alloca_once(builder, ir.LiteralStructType([v.type for v in values]))
    for i, value in enumerate(values):
        builder.store(value, cgutils.gep_inbounds(builder, place, 0, i))
    return place


def _make_task(context, builder, place, call):
    """Emits a task: a function (place, share) that loads the arguments and does `call(its builder, its arguments, share)`."""
    task = ir.Function(builder.module, context.call_conv.get_function_type(types.none, _TASK), f"{builder.function.name}.task")
    task.linkage = "internal"
    task.attributes.add("noinline")
    inner = ir.IRBuilder(task.append_basic_block())
    where, share = context.call_conv.get_arguments(task)
    where = inner.inttoptr(where, place.type)
    call(inner, [inner.load(cgutils.gep_inbounds(inner, where, 0, i)) for i in range(len(place.type.pointee.elements))], share)
    context.call_conv.return_value(inner, context.get_dummy_value())
    return task


def _enter(context, builder, region, task, shares, place):
    """Emits the call of the region at that address, or of the task for all shares in turn where that is 0."""
    task, place = (builder.ptrtoint(pointer, region.type) for pointer in (task, place))
    with builder.if_else(builder.icmp_signed("==", region, region.type(0))) as (alone, together):
        with alone, cgutils.for_range(builder, shares) as loop:
            _call(context, builder, task, _TASK, [place, loop.index])
        with together:
            _call(context, builder, region, (types.int64,) * 3, [task, shares, place])


@intrinsic
def enter_address(typing_context, region, shares, address, given):
    """Runs `call_share(address, share, given)` for every share, in the compiled `region` at that address."""
    kinds = (*given.types, types.int64)

    def codegen(context, builder, signature, args):
        def call(inner, arguments, share):
            _call(context, inner, arguments[0], kinds, [*cgutils.unpack_tuple(inner, arguments[1]), share])

        place = _store_arguments(builder, [args[2], _borrowed(context, builder, given, args[3])])
        _enter(context, builder, args[0], _make_task(context, builder, place, call), args[1], place)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, given), codegen


@intrinsic
def enter_body(typing_context, region, shares, body, given):
    """Runs body(*given, shares, share) for every share, in the compiled `region` at that address."""
    called = body.get_call_type(typing_context, (*given.types, types.int64, types.int64), {})

    def codegen(context, builder, signature, args):
        def call(inner, arguments, share):
            run = context.get_function(body, called)
            run(inner, [*cgutils.unpack_tuple(inner, arguments[1]), arguments[0], share])

        place = _store_arguments(builder, [args[1], _borrowed(context, builder, given, args[3])])
        _enter(context, builder, args[0], _make_task(context, builder, place, call), args[1], place)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, body, given), codegen


def _region(task, shares, place):
    """Calls the task at an address for share 0 ... shares - 1, in parallel."""
    for share in prange(shares):
        call_share(task, np.int64(share), (place,))


region = Kernel(_region, frozenset(), "region", split=False)


@cache
def region_address() -> int:
    return region.address((types.int64,) * 3, (), "parallel")


_ENTRY = """
def entry(region, shares, {body}{names}):
    enter_{what}(region, shares, {what}, ({names},))
"""


def _written(what: str, count: int, **more: Any) -> FunctionType:
    """The function (region, shares, [address,] *arguments) for `count` arguments.

    One for each count, because a call with *arguments takes Numba 2 us longer to dispatch.
    """
    scope = {**globals(), **more}
    text = _ENTRY.format(what=what, body="address, " * (what == "address"), names=", ".join(f"a{i}" for i in range(count)))
    exec(compile(text, __file__, "exec"), scope)
    entry: FunctionType = scope["entry"]
    return entry


@cache
def _entry(count: int) -> Kernel:
    """The kernel (region, shares, address, *arguments) for compiled bodies with `count` arguments and a share."""
    return kernel(name=f"entry_{count}")(_written("address", count))


def entry_of(function: FunctionType, fastmath: frozenset[str]) -> Any:
    """What Numba compiles for a kernel that ends in a prange loop: a function (region, shares, *arguments); None for another."""
    split = share_form(function)
    if split is None:
        return None
    options = {"error_model": "numpy", "no_cfunc_wrapper": True}
    body = numba.njit(**options, fastmath=set(fastmath), no_cpython_wrapper=True, forceinline=True)(split)
    return numba.njit(**options)(_written("body", function.__code__.co_argcount, body=body))


def in_parallel(entry: Any, *arguments: Any) -> None:
    """Calls what `entry_of` gave, with the threads in use."""
    entry(region_address(), threads.get_num_threads(), *arguments)


@helper
def span(count, shares, share):
    """The first of `count` things that belong to a share and the one after its last: parts of equal length, but for one thing."""
    return count * share // shares, count * (share + 1) // shares


_addresses: dict[tuple[Kernel, Any], int] = {}


def _address(body: Kernel, arguments: tuple[Any, ...]) -> int:
    """Where the compiled `body` starts; it is compiled, or loaded from the cache, at the first call for a dtype."""
    key = (body, arguments[0].dtype)
    if key not in _addresses:
        _addresses[key] = body.address(tuple(numba.typeof(a) for a in (*arguments, 0)), arguments)
    return _addresses[key]


def run_shares(body: Kernel, shares: int, *arguments: Any) -> None:
    """Runs body(*arguments, share) for every share, in parallel where there are several.

    arguments: arrays, contiguous and writeable (see `plain`), the first of a floating dtype that settles the types of the others, and
    numbers, always int, float or bool. Shares must write to different places.
    """
    if shares == 1 or config.DISABLE_JIT:
        for share in range(shares):
            body.serial(*arguments, share)
        return
    enter(_entry(len(arguments)), shares, _address(body, arguments), *arguments)


def enter(entry: Kernel, shares: int, address: int, *arguments: Any) -> None:
    """Runs the compiled body at `address` for every share; whether in parallel is asked anew at every call, in plans too."""
    if alone():
        entry.serial(0, shares, address, *arguments)
    else:
        with turn:
            entry.serial(region_address(), shares, address, *arguments)


def share_count(work: int, enough: int) -> int:
    """Into how many shares to cut work: one below `enough`, for which a parallel region costs more than it saves."""
    return 1 if work < enough else threads.get_num_threads()


def plain(array: np.ndarray, shape: int | tuple[int, ...] = -1) -> np.ndarray:
    """The array contiguous, writeable and in one axis, or another shape, as `run_shares` wants it; a copy only where it must be."""
    array = np.ascontiguousarray(array).reshape(shape)
    return array if array.flags.writeable else array.copy()


__all__ = ["enter", "plain", "run_shares", "share_count", "span"]
