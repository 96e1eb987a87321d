"""Running folds along one axis: cumulative sums, products and extrema, and the linear recurrence under their derivatives."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Linear, Op, call, op
from .reduction import as_dtype, single_dim


def scan_domain(draw):
    """Any shape with at least one axis, and one of its axes."""
    shape = draw.shape((1, 3))
    return call(draw.real(shape), draw.integer(-len(shape), len(shape) - 1))


def distinct_scan_domain(draw):
    """As `scan_domain`, with values no two of which are near each other."""
    shape = draw.shape((1, 3))
    return call(draw.distinct(shape), draw.integer(-len(shape), len(shape) - 1))


def shifted(x, dim: int, step: int, fill: float):
    """out[t] = x[t - step] along `dim` for a step of 1 or -1, with `fill` where there is none."""
    length = x.shape[dim]
    edge = tg.full(tuple([1 if i == dim else s for i, s in enumerate(x.shape)]), fill, dtype=x.dtype)
    kept = x.narrow(dim, max(-step, 0), length - 1)
    return tg.cat([edge, kept] if step > 0 else [kept, edge], dim)


def products_of_others(x, dim: int):
    """out[i] = product of x[j] over j != i along `dim`: products of all before times products of all behind."""
    if x.shape[dim] == 0:
        return x
    before = shifted(x.cumprod(dim), dim, 1, 1.0)
    behind = shifted(x.flip(dim).cumprod(dim), dim, 1, 1.0).flip(dim)
    return before * behind


def _recurrence_domain(draw):
    shape = draw.shape((1, 3))
    dim = draw.integer(0, len(shape) - 1)
    return call(draw.real(shape), draw.real(shape, -1, 1), dim, draw.boolean())


@op(
    "linear_recurrence",
    domain=_recurrence_domain,
    formula="out[t] = input[t] + decay[t] * out[t-1]",
    method=False,
    internal=True,
)
class linear_recurrence(Op):
    """h_t = input_t + decay_t * h_(t-1) along `dim`, from h_(-1) = 0; with `reverse`, h_t = input_t + decay_t * h_(t+1).

    Both tensors have one shape and floating dtype. Its derivative is a linear recurrence run the other way, which is what makes
    cumulative products differentiable at zeros, to every order.
    """

    def prepare(input, decay, dim, reverse=False):
        if input.shape != decay.shape or input.dtype != decay.dtype:
            raise ValueError(
                f"linear_recurrence: input {input.dtype} {input.shape} and decay {decay.dtype} {decay.shape} must have one "
                f"shape and one dtype"
            )
        return input, decay, single_dim("linear_recurrence", dim, input.ndim), bool(reverse)

    def reference(input: Array, decay: Array, dim: int, reverse: bool = False) -> np.ndarray:
        out = np.array(input)
        if not input.ndim:
            return out
        h, a = np.moveaxis(out, dim, 0), np.moveaxis(decay, dim, 0)
        if reverse:
            h, a = h[::-1], a[::-1]
        for t in range(1, len(h)):
            h[t] += a[t] * h[t - 1]
        return out

    def backward(upstream, decay, out, dim, reverse, ctx):
        if not out.ndim or not out.shape[dim]:
            return upstream, tg.zeros_like(decay)
        step = -1 if reverse else 1
        flow = tg.linear_recurrence(upstream, shifted(decay, dim, -step, 0.0), dim, not reverse)
        return flow, flow * shifted(out, dim, step, 0.0) if ctx.needs[1] else None


def _running_dtype(input: np.ndarray, dtype):
    return dtype or (input.dtype if input.dtype.kind == "f" else np.dtype(np.int64))


@op("cumsum", domain=scan_domain, formula="out[i] = sum of input[0 ... i] along dim", inplace=True, laws=(Linear("input"),))
class cumsum(Op):
    """Running sums along `dim`. Integers and booleans sum in int64; `dtype` is the dtype summed in."""

    def prepare(input, dim, *, dtype=None):
        return input, single_dim("cumsum", dim, input.ndim), as_dtype(dtype)

    def reference(input: Array, dim: int, *, dtype=None) -> np.ndarray:
        dtype = _running_dtype(input, dtype)
        return np.cumsum(input, axis=dim, dtype=dtype) if input.ndim else input.astype(dtype)

    def grad_input(upstream, ctx, dim):
        if not ctx.input_shapes[0]:
            return upstream.to(ctx.input_dtypes[0])
        return upstream.flip(dim).cumsum(dim).flip(dim).to(ctx.input_dtypes[0])


def _cumprod_domain(draw):
    x, dim = scan_domain(draw).args
    return call(x * draw.mask(x.shape) if draw.boolean() else x, dim)


@op("cumprod", domain=_cumprod_domain, formula="out[i] = product of input[0 ... i] along dim", inplace=True)
class cumprod(Op):
    """Running products along `dim`. Integers and booleans multiply in int64. The derivative is right at zeros too.

    With P the product of all before x_i: d/dx_i = P * S_i, where S_i = upstream_i + x_(i+1) * S_(i+1).
    """

    def prepare(input, dim, *, dtype=None):
        return input, single_dim("cumprod", dim, input.ndim), as_dtype(dtype)

    def reference(input: Array, dim: int, *, dtype=None) -> np.ndarray:
        dtype = _running_dtype(input, dtype)
        return np.cumprod(input, axis=dim, dtype=dtype) if input.ndim else input.astype(dtype)

    def grad_input(upstream, input, out, ctx, dim):
        if not ctx.input_shapes[0] or not ctx.input_shapes[0][dim]:
            return upstream.to(ctx.input_dtypes[0])
        following = shifted(input.to(upstream.dtype), dim, -1, 0.0)
        sums = tg.linear_recurrence(upstream, following, dim, True)
        return (shifted(out, dim, 1, 1.0) * sums).to(ctx.input_dtypes[0])


def _running_extremum(input: np.ndarray, dim: int, extremum: np.ufunc) -> tuple[np.ndarray, np.ndarray]:
    if not input.ndim:
        return input.copy(), np.zeros((), np.int64)
    values = extremum.accumulate(input, axis=dim)
    new = input == values
    if input.dtype.kind == "f":
        new |= np.isnan(input)
    places = np.arange(input.shape[dim]).reshape([-1 if i == dim else 1 for i in range(input.ndim)])
    return values, np.maximum.accumulate(np.where(new, places, 0), axis=dim)


class _RunningExtremum(Op):
    """What `cummax` and `cummin` share: the gradient of a running extremum goes to the element it took its value from."""

    outputs = ("values", "indices")

    def grad_input(upstream, indices, dim, ctx):
        shape = ctx.input_shapes[0]
        return tg.zeros(shape, dtype=upstream.dtype).scatter_add(dim, indices, upstream) if shape else upstream


@op("cummax", domain=distinct_scan_domain, formula="largest of input[0 ... i] along dim, and where", kinks=["ties: the last"])
class cummax(_RunningExtremum):
    """(values, indices) of the running maximum along `dim`; of tied elements the last. NaN stays once met."""

    def prepare(input, dim):
        return input, single_dim("cummax", dim, input.ndim)

    def reference(input: Array, dim: int):
        return _running_extremum(input, dim, np.maximum)


@op("cummin", domain=distinct_scan_domain, formula="smallest of input[0 ... i] along dim, and where", kinks=["ties: the last"])
class cummin(_RunningExtremum):
    """(values, indices) of the running minimum along `dim`; of tied elements the last. NaN stays once met."""

    def prepare(input, dim):
        return input, single_dim("cummin", dim, input.ndim)

    def reference(input: Array, dim: int):
        return _running_extremum(input, dim, np.minimum)


@op("logcumsumexp", domain=scan_domain, formula="out[i] = log(sum of e^input[0 ... i]) along dim")
class logcumsumexp(Op):
    """log(cumsum(exp(input))) along `dim` without overflow. Floating dtypes only. Where it is -inf, the gradient is 0.

    The derivative is e^(x_i - out_i) * S_i with S_i = upstream_i + e^(out_i - out_(i+1)) * S_(i+1): no exponent is positive.
    """

    def prepare(input, dim):
        if input.dtype.kind != "f":
            raise TypeError(f"logcumsumexp: expected a floating tensor, got {input.dtype}; use .float()")
        return input, single_dim("logcumsumexp", dim, input.ndim)

    def reference(input: Array, dim: int) -> np.ndarray:
        return np.logaddexp.accumulate(input, axis=dim) if input.ndim else input.copy()

    def grad_input(upstream, input, out, dim, ctx):
        shape = ctx.input_shapes[0]
        if not shape or not shape[dim]:
            return upstream
        level = tg.where(out == -math.inf, 0.0, out)
        ratio = (level - shifted(level, dim, -1, math.inf)).clamp(max=0.0).exp()
        return (input - level).exp() * tg.linear_recurrence(upstream, ratio, dim, True)


def _diff_domain(draw):
    shape = draw.shape((1, 3), low=3)
    dim = draw.integer(-len(shape), len(shape) - 1)
    edge = draw.real([draw.integer(1, 2) if i == dim % len(shape) else s for i, s in enumerate(shape)])
    ends = draw.choice([{}, {"prepend": edge}, {"append": edge}, {"prepend": edge, "append": edge}])
    return call(draw.real(shape), draw.integer(0, 3), dim, **ends)


@op(
    "diff",
    domain=_diff_domain,
    formula="out[i] = input[i + 1] - input[i] along dim, n times",
    laws=(Linear("input", when=lambda prepend, append: prepend is None and append is None),),
)
class diff(Composite):
    """The n-th forward difference along `dim`.

    First `prepend` and `append`, of the input's shape elsewhere, are set at the ends; with n = 0
    the input is copied as it is.
    """

    def prepare(input, n=1, dim=-1, prepend=None, append=None):
        if not input.ndim:
            raise ValueError("diff: expected at least one axis, got a 0-d tensor")
        if n < 0:
            raise ValueError(f"diff: the order n must not be negative, got {n}")
        return input, int(n), single_dim("diff", dim, input.ndim), prepend, append

    def reference(input: Array, n: int = 1, dim: int = -1, prepend: Array | None = None, append: Array | None = None):
        ends = {k: v for k, v in (("prepend", prepend), ("append", append)) if v is not None}
        return np.diff(input, n, dim, **ends)

    def compose(input, n=1, dim=-1, prepend=None, append=None):
        if n == 0:
            return input.clone()
        if prepend is not None or append is not None:
            input = tg.cat([t for t in (prepend, input, append) if t is not None], dim)
        for _ in range(n):
            rest = max(input.shape[dim] - 1, 0)
            later, earlier = input.narrow(dim, min(1, input.shape[dim]), rest), input.narrow(dim, 0, rest)
            input = later ^ earlier if input.dtype.kind == "b" else later - earlier
        return input
