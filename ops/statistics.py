"""Moments, order statistics, vector norms and counts of values."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Homogeneous, Op, PermutationEquivariant, call, op
from .bounded_sums import bounded_sum
from .extrema import pick, scatter_chosen
from .reduction import canonical_dims, dims_of, require_elements, restore_dims, single_dim


def _count(shape, dim) -> int:
    return math.prod([shape[d] for d in dim])


def _moment_domain(draw):
    shape = draw.shape((1, 3), low=3)
    options = [{}, {"correction": draw.choice([0, 1, 2, 0.5])}, {"unbiased": draw.boolean()}]
    return call(draw.distinct(shape), draw.choice(dims_of(shape)), keepdim=draw.boolean(), **draw.choice(options))


def _prepare_moment(name: str, input, dim, unbiased, keepdim, correction):
    if isinstance(dim, (bool, np.bool_)):  # the legacy form (input, unbiased)
        if unbiased is not None:
            raise TypeError(f"{name}: dim must be an axis, several or None, got {dim!r}")
        dim, unbiased = None, dim
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating tensor, got {input.dtype}; use .float()")
    if unbiased is not None:
        if correction not in (1, None):
            raise TypeError(f"{name}: give correction or unbiased, not both; got {correction} and {unbiased}")
        correction = int(bool(unbiased))
    correction = 1 if correction is None else correction
    return input, canonical_dims(name, dim, input.ndim), None, bool(keepdim), correction


def _moments(input: np.ndarray, dim, keepdim: bool, correction) -> tuple[np.ndarray, np.ndarray]:
    """(variance, mean), in two passes; for float16 both in float32.

    With bounded sums, u = 2^-24 for float32, M = the mean of |input| and n elements each, however many they are:

        |error of mean| <= 98 u M        |error of variance| <= 102 u variance + n / (n - correction) (99 u M)^2
    """
    wide = input.astype(np.float32) if input.dtype == np.float16 else input
    count = _count(input.shape, dim)
    mean = bounded_sum(wide, dim, True) / wide.dtype.type(count)
    deviation = wide - mean
    freedom = wide.dtype.type(max(count - correction, 0))
    variance = np.asarray(bounded_sum(deviation * deviation, dim, keepdim) / freedom)
    mean = np.asarray(mean)
    if not keepdim:
        mean = mean.reshape(variance.shape)
    return variance, mean


def _widened(tensor):
    """float16 as float32, whose sums neither overflow nor lose digits."""
    return tensor.float() if tensor.dtype == np.float16 else tensor


def _var_gradient(upstream, input, dim, keepdim, correction):
    shape = input.shape
    freedom = max(_count(shape, dim) - correction, 0)
    scale = 2.0 / freedom if freedom else math.inf
    wide = _widened(input)
    return (restore_dims(_widened(upstream), dim, keepdim, shape) * scale * (wide - wide.mean(dim, True))).to(input.dtype)


def _std_gradient(upstream, input, std, dim, keepdim, correction):
    flat = std == 0
    half = tg.where(flat, 0.0, _widened(upstream) / (2.0 * tg.where(flat, 1.0, _widened(std))))
    return _var_gradient(half, input, dim, keepdim, correction)


@op(
    "var",
    domain=_moment_domain,
    formula="sum of (input - mean)^2 over dim / (N - correction)",
    laws=(
        Homogeneous("input", degree=2),
        PermutationEquivariant("input", axis="dim", out=None),
    ),
)
class var(Op):
    """The variance over `dim` (an axis, several, or all), with N - correction in the denominator (correction=1: unbiased).

    unbiased: the legacy spelling, True for correction=1 and False for 0; `var(input, False)` is understood. NaN where
    N <= correction. Floating dtypes only.
    """

    def prepare(input, dim=None, unbiased=None, keepdim=False, *, correction=1):
        return _prepare_moment("var", input, dim, unbiased, keepdim, correction)

    def reference(input: Array, dim=None, unbiased=None, keepdim: bool = False, *, correction=1) -> np.ndarray:
        return _moments(input, dim, keepdim, correction)[0].astype(input.dtype, copy=False)

    def grad_input(upstream, input, dim, keepdim, correction):
        return _var_gradient(upstream, input, dim, keepdim, correction)


@op(
    "std",
    domain=_moment_domain,
    formula="sqrt(var)",
    kinks=["std 0: 0"],
    laws=(
        Homogeneous("input", positive=True),
        PermutationEquivariant("input", axis="dim", out=None),
    ),
)
class std(Op):
    """The standard deviation over `dim`: the square root of `var`, which explains the arguments.

    Where it is 0, so is its gradient.
    """

    def prepare(input, dim=None, unbiased=None, keepdim=False, *, correction=1):
        return _prepare_moment("std", input, dim, unbiased, keepdim, correction)

    def reference(input: Array, dim=None, unbiased=None, keepdim: bool = False, *, correction=1) -> np.ndarray:
        return np.sqrt(_moments(input, dim, keepdim, correction)[0]).astype(input.dtype, copy=False)

    def grad_input(upstream, input, out, dim, keepdim, correction):
        return _std_gradient(upstream, input, out, dim, keepdim, correction)


def _mean_gradient(upstream, dim, keepdim, shape):
    return (restore_dims(_widened(upstream), dim, keepdim, shape) / _count(shape, dim)).to(upstream.dtype).expand(shape)


@op("var_mean", domain=_moment_domain, formula="(variance, mean) over dim")
class var_mean(Op):
    """(var, mean) over `dim` at once; the arguments are those of `var`."""

    outputs = ("var", "mean")

    def prepare(input, dim=None, unbiased=None, keepdim=False, *, correction=1):
        return _prepare_moment("var_mean", input, dim, unbiased, keepdim, correction)

    def reference(input: Array, dim=None, unbiased=None, keepdim: bool = False, *, correction=1):
        variance, mean = _moments(input, dim, keepdim, correction)
        return variance.astype(input.dtype, copy=False), mean.astype(input.dtype, copy=False)

    def grad_input(upstreams, input, dim, keepdim, correction, ctx):
        of_var, of_mean = upstreams
        grad = None if of_mean is None else _mean_gradient(of_mean, dim, keepdim, ctx.input_shapes[0])
        if of_var is None:
            return grad
        other = _var_gradient(of_var, input, dim, keepdim, correction)
        return other if grad is None else grad + other


@op("std_mean", domain=_moment_domain, formula="(standard deviation, mean) over dim", kinks=["std 0: 0"])
class std_mean(Op):
    """(std, mean) over `dim` at once; the arguments are those of `var`."""

    outputs = ("std", "mean")

    def prepare(input, dim=None, unbiased=None, keepdim=False, *, correction=1):
        return _prepare_moment("std_mean", input, dim, unbiased, keepdim, correction)

    def reference(input: Array, dim=None, unbiased=None, keepdim: bool = False, *, correction=1):
        variance, mean = _moments(input, dim, keepdim, correction)
        return np.sqrt(variance).astype(input.dtype, copy=False), mean.astype(input.dtype, copy=False)

    def grad_input(upstreams, input, std, dim, keepdim, correction, ctx):
        of_std, of_mean = upstreams
        grad = None if of_mean is None else _mean_gradient(of_mean, dim, keepdim, ctx.input_shapes[0])
        if of_std is None:
            return grad
        other = _std_gradient(of_std, input, std, dim, keepdim, correction)
        return other if grad is None else grad + other


def lower_median(input: np.ndarray, dim: int, skip_nan: bool) -> np.ndarray:
    """The place along `dim` (kept, size 1) of the lower median; of the first NaN, unless NaN is skipped."""
    order = np.argsort(input, axis=dim, kind="stable")
    nan = np.isnan(input)
    known = input.shape[dim] - np.count_nonzero(nan, axis=dim, keepdims=True)
    if skip_nan:
        return np.take_along_axis(order, np.maximum(known - 1, 0) // 2, dim)
    middle = np.full(known.shape, (input.shape[dim] - 1) // 2)
    return np.take_along_axis(order, np.where(known < input.shape[dim], known, middle), dim)


def _dim_domain(draw):
    shape = draw.shape((1, 3))
    return call(draw.distinct(shape), draw.integer(-len(shape), len(shape) - 1), draw.boolean())


def _dim_or_all_domain(draw):
    shape = draw.shape((1, 3))
    x = draw.distinct(shape)
    return call(x) if draw.boolean() else call(x, draw.integer(-len(shape), len(shape) - 1), draw.boolean())


@op("median_dim", domain=_dim_domain, formula="lower median of input along dim, and where", method=False, internal=True)
class median_dim(Op):
    """(values, indices) of the lower median along one axis: what `median(input, dim)` and `nanmedian(input, dim)` compute."""

    outputs = ("values", "indices")

    def prepare(input, dim, keepdim=False, skip_nan=False):
        dim = single_dim("median", dim, input.ndim)
        require_elements("median", input, (dim,) if input.ndim else ())
        return input, dim, bool(keepdim), bool(skip_nan)

    def reference(input: Array, dim: int, keepdim: bool = False, skip_nan: bool = False):
        return pick(input, lower_median(input, dim, skip_nan) if input.ndim else None, dim, keepdim)

    def grad_input(upstream, indices, dim, keepdim, ctx):
        return scatter_chosen(upstream, indices, dim, keepdim, ctx.input_shapes[0])


@op(
    "median_all",
    domain=lambda draw: call(draw.distinct(draw.shape())),
    formula="lower median of all input",
    method=False,
    internal=True,
)
class median_all(Op):
    """The lower median of all elements: what `median(input)` computes. NaN if any is NaN (or, skipping NaN, if all are).

    Tied elements share the gradient evenly. Of no elements: NaN; ValueError for an integer dtype.
    """

    def prepare(input, skip_nan=False):
        if not input.numel() and input.dtype.kind != "f":
            raise ValueError(f"median: a tensor of shape {input.shape} and dtype {input.dtype} has no median")
        return input, bool(skip_nan)

    def reference(input: Array, skip_nan: bool = False) -> np.ndarray:
        flat = input.reshape(-1)
        return flat[lower_median(flat, 0, skip_nan)[0]] if flat.size else np.array(np.nan, input.dtype)

    def grad_input(upstream, input, out):
        chosen = tg.where(out.isnan(), input.isnan(), input == out).to(upstream.dtype)
        return chosen * (upstream / chosen.sum())


@op("median", domain=_dim_or_all_domain, formula="lower median of input", kinks=["ties: see amax"])
class median(Composite):
    """median(input): the lower median of all elements. median(input, dim, keepdim): (values, indices) along an axis.

    Of an even number of elements the lower of the middle two, as PyTorch; NaN if any is NaN. ValueError for an empty axis.
    """

    def reference(input: Array, dim=None, keepdim: bool = False):
        if dim is None:
            return np.sort(input.reshape(-1))[(input.size - 1) // 2] if input.size else np.asarray(np.nan, input.dtype)
        middle = [(input.shape[dim] - 1) // 2]
        places = np.take(np.argsort(input, axis=dim), middle, axis=dim)
        values = np.take(np.sort(input, axis=dim), middle, axis=dim)
        return (values, places) if keepdim else (values.squeeze(dim), places.squeeze(dim))

    def compose(input, dim=None, keepdim=False):
        return tg.median_all(input) if dim is None else tg.median_dim(input, dim, keepdim)


@op("nanmedian", domain=_dim_or_all_domain, formula="lower median of the inputs that are not NaN")
class nanmedian(Composite):
    """As `median`, of the elements that are not NaN; NaN where nothing is left."""

    def reference(input: Array, dim=None, keepdim: bool = False):
        return tg.ops.get("median").reference(input, dim, keepdim)

    def compose(input, dim=None, keepdim=False):
        return tg.median_all(input, True) if dim is None else tg.median_dim(input, dim, keepdim, True)


def _mode_domain(draw):
    shape = draw.shape((1, 3))
    dim = draw.integer(0, len(shape) - 1)
    return call(draw.distinct(shape), dim, draw.boolean())


@op("mode", domain=_mode_domain, formula="most frequent input along dim, and where")
class mode(Op):
    """(values, indices) of the most frequent value along `dim`: the smallest of equally frequent ones, at its last place."""

    outputs = ("values", "indices")

    def prepare(input, dim=-1, keepdim=False):
        dim = single_dim("mode", dim, input.ndim)
        require_elements("mode", input, (dim,) if input.ndim else ())
        return input, dim, bool(keepdim)

    def reference(input: Array, dim: int = -1, keepdim: bool = False):
        if not input.ndim:
            return pick(input, np.zeros(0, int), dim, keepdim)

        def last_place(row: np.ndarray) -> int:
            _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
            return int(np.flatnonzero(inverse == np.argmax(counts))[-1])

        rows = np.moveaxis(input, dim, -1)
        places = np.array([last_place(row) for row in rows.reshape(-1, input.shape[dim])], np.int64)
        return pick(input, np.expand_dims(places.reshape(rows.shape[:-1]), dim), dim, keepdim)

    def grad_input(upstream, indices, dim, keepdim, ctx):
        return scatter_chosen(upstream, indices, dim, keepdim, ctx.input_shapes[0])


_QUANTILE_METHODS = ("linear", "lower", "higher", "nearest", "midpoint")


def _quantile_domain(draw):
    shape = draw.shape((1, 3))
    q = draw.choice([draw.number(0, 1), 0.5, 0.0, 1.0])
    x, dim = draw.distinct(shape), draw.choice([None, *range(-len(shape), len(shape))])
    return call(x, q, dim, draw.boolean(), interpolation=draw.choice(_QUANTILE_METHODS))


@op("quantile", domain=_quantile_domain, formula="the value below which a share q of input lies")
class quantile(Composite):
    """The q-quantile over `dim` (an axis, or all): of n sorted elements the one at place q (n - 1), between neighbours by
    `interpolation` (linear, lower, higher, nearest, midpoint).

    q: a number in [0, 1], or a 1-D tensor of several, whose axis comes first in the result. NaN where an element is NaN.
    """

    def prepare(input, q, dim=None, keepdim=False, *, interpolation="linear"):
        if input.dtype.kind != "f":
            raise TypeError(f"quantile: expected a floating tensor, got {input.dtype}; use .float()")
        if interpolation not in _QUANTILE_METHODS:
            raise ValueError(f"quantile: interpolation must be one of {', '.join(_QUANTILE_METHODS)}; got {interpolation!r}")
        values = np.asarray(q.detach().numpy() if isinstance(q, tg.Tensor) else q, np.float64)
        if values.ndim > 1 or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"quantile: q must be a number, or a 1-D tensor of numbers, in [0, 1]; got {q}")
        dims = None if dim is None else single_dim("quantile", dim, input.ndim)
        require_elements("quantile", input, tuple(range(input.ndim)) if dim is None or not input.ndim else (dims,))
        return input, values.item() if not values.ndim else tuple(values.tolist()), dims, bool(keepdim), interpolation

    def reference(input: Array, q, dim=None, keepdim: bool = False, *, interpolation: str = "linear") -> np.ndarray:
        return np.quantile(input, q, axis=dim if input.ndim else None, keepdims=keepdim, method=interpolation).astype(
            input.dtype
        )

    def compose(input, q, dim=None, keepdim=False, *, interpolation="linear"):
        shape = input.shape
        kept = tuple([1 if dim is None or i == dim else s for i, s in enumerate(shape)])
        rows = input.reshape(-1) if dim is None or not shape else input.movedim(dim, -1)
        ordered = rows.sort(-1)[0]
        last = rows.shape[-1] - 1
        broken = rows.isnan().any(-1)
        results = []
        for share in [q] if isinstance(q, float) else q:
            place = share * last
            low, high = math.floor(place), math.ceil(place)
            if interpolation == "nearest":
                low = high = round(place)
            elif interpolation in ("lower", "higher"):
                low = high = low if interpolation == "lower" else high
            weight = 0.5 * (high - low) if interpolation == "midpoint" else place - low
            value = ordered.select(-1, low)
            if high != low:
                value = tg.lerp(value, ordered.select(-1, high), weight)
            value = tg.where(broken, math.nan, value)
            results.append(value.reshape(kept) if keepdim else value)
        return results[0] if isinstance(q, float) else tg.stack(results, 0)


def _histc_domain(draw):
    return call(draw.real(draw.shape((1, 2))), draw.integer(1, 5), *draw.choice([(), (-1.5, 1.0)]))


@op("histc", domain=_histc_domain, formula="out[i] = number of inputs in bin i")
class histc(Op):
    """Counts of the elements in `bins` equal bins between `min` and `max`, in the input's dtype.

    Where min == max, the data's own range is taken.

    Bins hold their lower edge, the last both. Elements outside, and NaN, are not counted. Not differentiable.
    """

    differentiable = False

    def prepare(input, bins=100, min=0, max=0):
        if input.dtype.kind != "f":
            raise TypeError(f"histc: expected a floating tensor, got {input.dtype}; use .float()")
        if bins < 1:
            raise ValueError(f"histc: bins must be at least 1, got {bins}")
        if not min <= max or not math.isfinite(max - min):
            raise ValueError(f"histc: expected a finite min <= max, got {min} and {max}")
        return input, int(bins), min, max

    def reference(input: Array, bins: int = 100, min=0, max=0) -> np.ndarray:
        values = input.reshape(-1)
        if min == max and values.size:
            min, max = float(values.min()), float(values.max())
        if min == max:
            min, max = min - 1, max + 1
        inside = values[(values >= min) & (values <= max)].astype(np.float64)
        places = np.minimum(((inside - min) / (max - min) * bins).astype(np.int64), bins - 1)
        return np.bincount(places, minlength=bins).astype(input.dtype)


def _bincount_domain(draw):
    n = draw.integer(1, 6)
    return call(draw.integers((n,), 0, 5), draw.choice([None, draw.real((n,))]), draw.integer(0, 8))


@op("bincount", domain=_bincount_domain, formula="out[v] = number (or summed weights) of inputs equal to v")
class bincount(Op):
    """How often each value occurs in a 1-D tensor of non-negative integers, or the sum of its `weights`.

    The result has at least `minlength` elements.

    int64 without weights; with weights their dtype if float32, else float64. ValueError for a negative value or another
    shape. Not differentiable.
    """

    differentiable = False
    values_shape = True

    def prepare(input, weights=None, minlength=0):
        if input.ndim != 1 or input.dtype.kind not in "iu":
            raise ValueError(f"bincount: expected a 1-D tensor of integers, got {input.dtype} of shape {input.shape}")
        if weights is not None and weights.shape != input.shape:
            raise ValueError(f"bincount: weights of shape {weights.shape} must have the input's shape {input.shape}")
        if minlength < 0:
            raise ValueError(f"bincount: minlength must not be negative, got {minlength}")
        return input, weights, int(minlength)

    def reference(input: Array, weights: Array | None = None, minlength: int = 0) -> np.ndarray:
        if input.size and input.min() < 0:
            raise ValueError(f"bincount: values must not be negative, the smallest is {input.min()}")
        counts = np.bincount(input, weights, minlength)
        return counts.astype(np.float32) if weights is not None and weights.dtype == np.float32 else counts
