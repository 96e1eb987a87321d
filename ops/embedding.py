"""Tables of vectors looked up by index: embedding and bags of embeddings."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..dispatch import check_writable, finish_inplace
from ..extend import Array, Composite, Linear, Op, Tensor, call, no_grad, op
from .gathering import within


def _check_table(name: str, input, weight, padding_idx: int | None) -> int | None:
    """Checks indices against a table of shape (V, D), before any work; gives padding_idx counted from 0."""
    for label, t in (("input", input), ("weight", weight)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: expected a Tensor for `{label}`, got {type(t).__name__}")
    if input.dtype.kind not in "iu":
        raise TypeError(f"{name}: indices must be integers, got {input.dtype}; use .long()")
    if weight.ndim != 2:
        raise ValueError(f"{name}: weight must have shape (num_embeddings, embedding_dim), got {weight.shape}")
    rows, indices = weight.shape[0], input._data
    if not within(indices, rows):
        where = tuple(np.argwhere((indices >= rows) | (indices < 0))[0].tolist())
        raise IndexError(f"{name}: index {indices[where]} at {where} of input is out of range for a table of {rows} rows")
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise IndexError(f"{name}: padding_idx={padding_idx} is out of range for a table of {rows} rows")
    return padding_idx % rows


def _refuse_sparse(name: str, sparse: bool) -> None:
    if sparse:
        raise ValueError(f"{name}: sparse=True is not supported, gradients are dense; leave it False")


def _renormalise(name: str, weight: Tensor, indices: np.ndarray, max_norm: float | None, norm_type: float) -> None:
    """Scales the rows looked up that are longer than `max_norm` down to it, in place and outside the graph."""
    if max_norm is None:
        return
    used = np.unique(indices)
    rows = weight._data[used]
    norms = np.linalg.norm(rows.astype(np.float64), ord=norm_type, axis=1)
    long = norms > max_norm
    if long.any():
        with no_grad():
            check_writable(f"{name}: max_norm", weight)
            scaled = rows[long] * (max_norm / (norms[long] + 1e-7))[:, None].astype(weight.dtype)
            weight._data[used[long]] = scaled
            finish_inplace(weight, weight.detach(), None)


def _embedding_domain(draw):
    rows, width = draw.integer(2, 4), draw.integer(1, 3)
    # padding_idx and scale_grad_by_freq give a gradient that is, on purpose, not the derivative: padding stays outside the input.
    return call(draw.integers(draw.shape((0, 2)), 0, rows - 1), draw.real((rows, width)), draw.choice([None, -1]))


@op("embedding", domain=_embedding_domain, formula="out[...] = weight[input[...]]", method=False)
class embedding(Composite):
    """The rows of `weight` (V, D) at integer indices `input` of any shape: a result of shape (*input.shape, D).

    padding_idx: a row that receives no gradient. max_norm: rows longer than this (in the p-norm `norm_type`) are first scaled down to
    it in place. scale_grad_by_freq: a row's gradient is divided by how often it was looked up. sparse=True is refused.
    IndexError for an index out of range.
    """

    nondiff = ("input",)
    mutates = ("weight",)

    def prepare(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
        _refuse_sparse("embedding", sparse)
        padding_idx = _check_table("embedding", input, weight, padding_idx)
        return input, weight, padding_idx, max_norm, float(norm_type), bool(scale_grad_by_freq), False

    def reference(
        input: Array, weight: Array, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
        scale_grad_by_freq: bool = False, sparse: bool = False,
    ) -> np.ndarray:  # fmt: skip
        out = weight[input]
        if max_norm is not None:
            norms = np.linalg.norm(out, ord=norm_type, axis=-1, keepdims=True)
            out = np.where(norms > max_norm, out * (max_norm / (norms + 1e-7)), out).astype(weight.dtype)
        return out

    def compose(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
        _renormalise("embedding", weight, input._data, max_norm, norm_type)
        return tg.embedding_lookup(input, weight, padding_idx, scale_grad_by_freq)


def _lookup_domain(draw):
    rows, width = draw.integer(2, 4), draw.integer(1, 3)
    return call(draw.integers(draw.shape((0, 2)), 0, rows), draw.real((rows, width)), None, False)


@op(
    "embedding_lookup",
    domain=_lookup_domain,
    formula="out[...] = weight[input[...]]",
    kernels={"cpu": "tinygrad_cv.ops.cpu.gathering:embedding_lookup"},
    method=False,
    internal=True,
    laws=(Linear("weight"),),
)
class embedding_lookup(Op):
    """`embedding` without its in-place renormalisation. The gradient skips padding_idx and divides by counts where asked to."""

    nondiff = ("input",)

    def reference(input: Array, weight: Array, padding_idx: int | None = None, scale_grad_by_freq: bool = False) -> np.ndarray:
        return weight.take(input, axis=0)

    def grad_weight(upstream, ctx, input, padding_idx, scale_grad_by_freq):
        return tg.embedding_backward(upstream, input, ctx.input_shapes[1][0], padding_idx, scale_grad_by_freq)


def _embedding_backward_domain(draw):
    rows, width = draw.integer(2, 4), draw.integer(1, 3)
    shape = draw.shape((0, 2))
    return call(draw.real((*shape, width)), draw.integers(shape, 0, rows), rows, draw.choice([None, 0, 1]), draw.boolean())


def row_factors(input: np.ndarray, padding_idx: int | None, scale_grad_by_freq: bool, dtype) -> np.ndarray | None:
    """What each looked-up row's gradient is multiplied with: 0 for padding, one over its count; None when all are 1."""
    if padding_idx is None and not scale_grad_by_freq:
        return None
    flat = input.reshape(-1)
    factors = np.ones(flat.size, dtype)
    if scale_grad_by_freq and flat.size:
        factors /= np.bincount(flat)[flat].astype(dtype)
    if padding_idx is not None:
        factors[flat == padding_idx] = 0
    return factors.reshape(input.shape)


@op(
    "embedding_backward",
    domain=_embedding_backward_domain,
    formula="out = zeros(num_embeddings, D); out[input[...]] += grad_output[...]",
    kernels={"cpu": "tinygrad_cv.ops.cpu.sampling:embedding_backward"},
    method=False,
    internal=True,
)
class embedding_backward(Op):
    """The gradient of `embedding` for its table: rows of grad_output (..., D) added up at their indices, shape (V, D)."""

    nondiff = ("input",)

    def reference(
        grad_output: Array, input: Array, num_embeddings: int, padding_idx: int | None, scale_grad_by_freq: bool
    ) -> np.ndarray:
        rows, flat = grad_output.reshape(input.size, grad_output.shape[-1]), input.reshape(-1)
        factors = row_factors(flat, padding_idx, scale_grad_by_freq, grad_output.dtype)
        rows = rows if factors is None else rows * factors[:, None]
        out = np.zeros((num_embeddings, rows.shape[1]), grad_output.dtype)
        if flat.size:  # equal indices side by side, then one sum for each run
            order = np.argsort(flat, kind="stable")
            ordered = flat[order]
            starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
            out[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
        return out

    def grad_grad_output(upstream, input, padding_idx, scale_grad_by_freq):
        picked = tg.embedding_lookup(input, upstream, None, False)
        factors = row_factors(input._data, padding_idx, scale_grad_by_freq, upstream.dtype)
        return picked if factors is None else picked * tg.from_numpy(factors[..., None])


def _bag_domain(draw):
    rows, width = draw.integer(2, 4), draw.integer(1, 3)
    weight = draw.distinct((rows, width))
    mode = draw.choice(["mean", "sum", "max"])
    padding = draw.choice([None, 0])
    if draw.boolean():
        input, offsets = draw.integers((2, 3), 0, rows), None
    else:
        input, offsets = draw.integers((5,), 0, rows), np.array([0, 2, draw.integer(2, 5)])
    samples = draw.real(input.shape, 0.5, 1.5) if mode == "sum" and draw.boolean() else None
    return call(input, weight, offsets, mode=mode, per_sample_weights=samples, padding_idx=padding)


@op(
    "embedding_bag",
    domain=_bag_domain,
    formula="out[b] = mean, sum or max of weight[i] over the indices i of bag b",
    method=False,
)
class embedding_bag(Composite):
    """Looks up bags of indices in `weight` (V, D) and reduces each bag to one row: (bags, D).

    input: (bags, k), or 1-D with `offsets` (bags) telling where each bag starts (include_last_offset: with the end as an extra last
    entry). mode: 'mean', 'sum' or 'max'; an empty bag gives zeros. per_sample_weights: factors of input's shape, for 'sum' only.
    padding_idx: an index left out of its bag. Other arguments as `embedding`. A tie of 'max' goes to the first index.
    """

    nondiff = ("input", "offsets")
    mutates = ("weight",)

    def prepare(
        input, weight, offsets=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, mode="mean", sparse=False,
        per_sample_weights=None, include_last_offset=False, padding_idx=None,
    ):  # fmt: skip
        name = "embedding_bag"
        _refuse_sparse(name, sparse)
        padding_idx = _check_table(name, input, weight, padding_idx)
        if mode not in ("mean", "sum", "max"):
            raise ValueError(f"{name}: mode must be 'mean', 'sum' or 'max', got {mode!r}")
        if input.ndim == 2 and offsets is not None:
            raise ValueError(f"{name}: offsets go with a 1-D input; each row of input {input.shape} is a bag already")
        if input.ndim not in (1, 2) or (input.ndim == 1 and offsets is None):
            raise ValueError(f"{name}: expected input (bags, k), or a 1-D input with offsets; got input {input.shape}")
        if offsets is not None:
            starts = offsets._data
            if offsets.ndim != 1 or starts.dtype.kind not in "iu" or not starts.size:
                raise ValueError(
                    f"{name}: offsets must be a 1-D tensor of integers, got {offsets.dtype}, shape {offsets.shape}"
                )
            if starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] > input.shape[0]:
                raise ValueError(
                    f"{name}: offsets must start at 0, not decrease, and end within input's {input.shape[0]} indices"
                )
        if per_sample_weights is not None and (mode != "sum" or per_sample_weights.shape != input.shape):
            raise ValueError(
                f"{name}: per_sample_weights need mode='sum' and input's shape {input.shape}; got mode={mode!r}, shape "
                f"{per_sample_weights.shape}"
            )
        return (
            input, weight, offsets, max_norm, float(norm_type), bool(scale_grad_by_freq), mode, False, per_sample_weights,
            bool(include_last_offset), padding_idx,
        )  # fmt: skip

    def reference(
        input: Array, weight: Array, offsets: Array | None = None, max_norm: float | None = None, norm_type: float = 2.0,
        scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, per_sample_weights: Array | None = None,
        include_last_offset: bool = False, padding_idx: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        table = weight
        if max_norm is not None:
            norms = np.linalg.norm(weight, ord=norm_type, axis=1, keepdims=True)
            table = np.where(norms > max_norm, weight * (max_norm / (norms + 1e-7)), weight).astype(weight.dtype)
        factors = np.ones(input.shape, weight.dtype) if per_sample_weights is None else per_sample_weights
        if offsets is None:
            bags = list(zip(input, factors, strict=True))
        else:
            ends = [*offsets.tolist()[1:], *([] if include_last_offset else [input.size])]
            bags = [(input[a:b], factors[a:b]) for a, b in zip(offsets.tolist(), ends, strict=False)]
        rows = []
        for indices, scale in bags:
            kept = np.ones(indices.shape, bool) if padding_idx is None else indices != padding_idx
            values = table[indices[kept]] * scale[kept][:, None]
            reduce = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode]
            rows.append(reduce(values, axis=0) if len(values) else np.zeros(weight.shape[1], weight.dtype))
        return np.array(rows, weight.dtype).reshape(len(bags), weight.shape[1])

    def compose(
        input, weight, offsets=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, mode="mean", sparse=False,
        per_sample_weights=None, include_last_offset=False, padding_idx=None,
    ):  # fmt: skip
        indices = input._data.reshape(-1)
        _renormalise("embedding_bag", weight, indices, max_norm, norm_type)
        if offsets is None:
            starts = np.arange(input.shape[0] + 1) * input.shape[1]
        else:
            starts = offsets._data if include_last_offset else np.r_[offsets._data, indices.size]
        bags = len(starts) - 1
        owner = np.repeat(np.arange(bags), np.diff(starts))  # the bag of every index
        kept = slice(None) if padding_idx is None else np.flatnonzero(indices[: len(owner)] != padding_idx)
        owner, indices = owner[kept], indices[: len(owner)][kept]
        rows = tg.embedding_lookup(tg.from_numpy(np.ascontiguousarray(indices)), weight, padding_idx, scale_grad_by_freq)
        if mode == "max":
            return _max_of_bags(rows, owner, bags)
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.reshape(-1)[kept].unsqueeze(-1)
        out = tg.embedding_backward(rows, tg.from_numpy(owner), bags, None, False)
        if mode == "mean":
            out = out / tg.from_numpy(np.maximum(np.bincount(owner, minlength=bags), 1).astype(weight.dtype)[:, None])
        return out


def _max_of_bags(rows: Tensor, owner: np.ndarray, bags: int) -> Tensor:
    """The largest value of each column in each bag; zeros for empty bags. The first of equal values gets the gradient."""
    width = rows.shape[1]
    if not len(owner):
        return tg.zeros((bags, width), dtype=rows.dtype) + rows.sum(0)  # zeros with a history
    values = rows._data
    order = np.lexsort((np.arange(len(owner))[:, None].repeat(width, 1), -values, owner[:, None].repeat(width, 1)), axis=0)
    starts = np.searchsorted(owner, np.arange(bags))
    filled = np.bincount(owner, minlength=bags) > 0
    first = order[np.minimum(starts, len(owner) - 1)]
    picked = rows.gather(0, tg.from_numpy(np.ascontiguousarray(first)))
    return picked * tg.from_numpy(filled.astype(rows.dtype)[:, None])
