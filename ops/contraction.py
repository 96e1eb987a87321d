"""Sums of products over named axes: einsum, tensordot, and products of pairs of elements."""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Linear, Op, Symmetric, call, op
from .linear import same_dtype
from .reduction import single_dim

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _parse(equation: str, shapes) -> tuple[list[list], list]:
    """The labels of each operand's axes and of the result's: letters, and negative numbers for the axes of an ellipsis."""

    def fail(problem: str) -> ValueError:
        return ValueError(f"einsum: in {equation!r} for shapes {', '.join(map(str, shapes))}: {problem}")

    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise fail(f"{len(terms)} terms but {len(shapes)} operands")
    if unknown := set(left.replace("...", "") + right.replace("...", "")) - set(_LETTERS + ","):
        raise fail(f"labels must be letters, got {''.join(sorted(unknown))!r}")
    operands = []
    for term, shape in zip(terms, shapes, strict=True):
        before, dots, after = term.partition("...")
        if "..." in after:
            raise fail("a term has two ellipses")
        hidden = len(shape) - len(before) - len(after)
        if hidden < 0 or (hidden and not dots):
            raise fail(f"the term {term!r} does not name the {len(shape)} axes of shape {shape}")
        operands.append([*before, *range(-hidden, 0), *after])
    widest = [*range(-max((_hidden(o) for o in operands), default=0), 0)]
    if arrow:
        before, dots, after = right.partition("...")
        result = [*before, *(widest if dots else ()), *after]
        if "..." in after or "," in right:
            raise fail("the result must be one term with at most one ellipsis")
    else:
        letters = [label for o in operands for label in o if isinstance(label, str)]
        result = [*widest, *sorted(label for label in set(letters) if letters.count(label) == 1)]
    sizes: dict = {}
    for labels, shape in zip(operands, shapes, strict=True):
        for label, size in zip(labels, shape, strict=True):
            known = sizes.setdefault(label, size)
            if known != size and known != 1 and size != 1:
                which = "an axis of the ellipsis" if isinstance(label, int) else f"label {label!r}"
                raise fail(f"{which} has sizes {known} and {size}")
            sizes[label] = size if known == 1 else known
    if len(set(result)) != len(result):
        raise fail("the result names a label twice")
    if missing := [label for label in result if label not in sizes]:
        raise fail(f"no operand has the label {missing[0]!r} of the result")
    return operands, result


def _from_sublists(arguments: tuple) -> tuple[str, list]:
    """The equation and the operands of `einsum(a, [0, 1], b, [1, 2], [0, 2])`: label n is the n-th letter, upper case first."""
    terms = [*arguments[1::2], *arguments[-1:]] if len(arguments) % 2 else arguments[1::2]
    operands = list(arguments[: len(arguments) // 2 * 2 : 2])

    def written(place: str, sublist) -> str:
        if not isinstance(sublist, (list, tuple)):
            raise TypeError(f"einsum: expected a list of labels for {place}, got {type(sublist).__name__}")
        for label in sublist:
            if label is not Ellipsis and not (isinstance(label, (int, np.integer)) and 0 <= label < len(_LETTERS)):
                raise ValueError(f"einsum: labels must be integers in [0, {len(_LETTERS)}) or ..., got {label!r} for {place}")
        return "".join(["..." if label is Ellipsis else (_LETTERS[26:] + _LETTERS)[label] for label in sublist])

    equation = ",".join([written(f"operand {i}", term) for i, term in enumerate(terms[: len(operands)])])
    return equation + ("->" + written("the result", terms[-1]) if len(arguments) % 2 else ""), operands


def _hidden(labels: list) -> int:
    return len([label for label in labels if isinstance(label, int)])


def _without_repeats(x, labels: list) -> tuple:
    """Replaces axes that share a label by their diagonal, which becomes the last axis."""
    while repeated := [label for label in labels if labels.count(label) > 1]:
        first = labels.index(repeated[0])
        second = labels.index(repeated[0], first + 1)
        if x.shape[first] != x.shape[second]:
            wide = max(x.shape[first], x.shape[second])
            x = x.expand(*[wide if i in (first, second) else s for i, s in enumerate(x.shape)])
        x = x.diagonal(0, first, second)
        labels = [label for i, label in enumerate(labels) if i not in (first, second)] + [repeated[0]]
    return x, labels


def _summed(x, labels: list, keep) -> tuple:
    """Sums the axes whose label is not in `keep`."""
    gone = [i for i, label in enumerate(labels) if label not in keep]
    return (x.sum(gone) if gone else x), [label for label in labels if label in keep]


def _aligned(x, labels: list, order: list):
    """`x` with its axes in `order`, those it lacks as size 1."""
    x = x.permute(*sorted(range(len(labels)), key=lambda i: order.index(labels[i]))) if len(labels) > 1 else x
    sizes = iter(x.shape)
    return x.reshape([next(sizes) if label in labels else 1 for label in order])


def _contract(a, a_labels: list, b, b_labels: list, keep) -> tuple:
    """The product of two operands summed over shared labels not in `keep`: one batched matrix product."""
    stretched = {la for la in a_labels if la in b_labels and a.shape[a_labels.index(la)] != b.shape[b_labels.index(la)]}
    a, a_labels = _summed(a, a_labels, set(b_labels) | set(keep))
    b, b_labels = _summed(b, b_labels, set(a_labels) | set(keep))
    shared = [label for label in a_labels if label in b_labels]
    batch = [label for label in shared if label in keep]
    summed = [label for label in shared if label not in keep]
    rows = [label for label in a_labels if label not in b_labels]
    columns = [label for label in b_labels if label not in a_labels]
    out = batch + rows + columns
    if not summed:
        return _aligned(a, a_labels, out) * _aligned(b, b_labels, out), out
    size = {label: s for x, labels in ((a, a_labels), (b, b_labels)) for label, s in zip(labels, x.shape, strict=True)}
    for label in stretched:
        size[label] = max(a.shape[a_labels.index(label)], b.shape[b_labels.index(label)])
    a, b = _aligned(a, a_labels, batch + rows + summed), _aligned(b, b_labels, batch + summed + columns)
    if stretched:
        a = a.expand(*[size[label] for label in batch + rows + summed])
        b = b.expand(*[size[label] for label in batch + summed + columns])

    def total(labels: list) -> int:
        return math.prod([size[label] for label in labels])

    lead = [total(batch)] if batch else []
    product = a.reshape([*lead, total(rows), total(summed)]) @ b.reshape([*lead, total(summed), total(columns)])
    return product.reshape([size[label] for label in out]), out


_EXAMPLES = (
    "ij,jk->ik", "ij,kj", "bij,bjk->bik", "i,j->ij", "ii->i", "ii", "iij->j", "ij->ji", "ij->", "...ij,...jk->...ik",
    "i...,i->...", "...", "ij,j,i->", "ij,ij->ij", "ijk,k", "bi,bj,bk->bijk", "iji,j->i", ",i->i", "b...i,oi->b...o",
)  # fmt: skip


def _einsum_domain(draw):
    equation = draw.choice(_EXAMPLES)
    size = {label: draw.integer(1, 3) for label in _LETTERS}
    dots = draw.shape((0, 2), high=2)
    arrays = []
    for term in equation.split("->")[0].split(","):
        before, ellipsis, after = term.partition("...")
        shape = [size[label] for label in before] + list(dots if ellipsis else ()) + [size[label] for label in after]
        arrays.append(draw.real(shape))
    return call(equation, *arrays)


@op("einsum", domain=_einsum_domain, formula="sum of products over the labels absent from the result", method=False)
class einsum(Composite):
    """Einstein summation: `einsum("bij,bjk->bik", x, y)`.

    Or with a list of labels after each operand and one for the result: `einsum(x, [0, 1, 2], y, [0, 2, 3], [0, 1, 3])`, in which
    0 to 51 stand for A to Z and a to z, and ... for an ellipsis.

    One letter names each axis; a label missing from the result is summed over; a label repeated in a term takes the
    diagonal; an ellipsis stands for the axes not named, which broadcast. Without "->" the result has the ellipsis, then the
    labels that occur once, in order (upper case first). Operands of one dtype, taken from left to right as matrix products.
    Sizes of one label agree or are 1. ValueError with the equation and shapes otherwise.
    """

    def prepare(equation, *operands):
        if isinstance(equation, tg.Tensor) and operands:
            equation, operands = _from_sublists((equation, *operands))
        elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = tuple(operands[0])
        if not isinstance(equation, str) or not operands:
            raise ValueError(
                f"einsum: expected an equation and Tensors, or Tensors each with a list of labels; got a {type(equation).__name__} and "
                f"{len(operands)} operands"
            )
        for i, operand in enumerate(operands):
            if not isinstance(operand, tg.Tensor):
                raise TypeError(f"einsum: expected a Tensor for operand {i}, got {type(operand).__name__}")
        same_dtype("einsum", **{f"operand {i}": t for i, t in enumerate(operands)})
        _parse(equation, [t.shape for t in operands])
        return equation, operands

    def reference(equation, *operands: list[Array]) -> np.ndarray:
        return np.asarray(np.einsum(equation, *operands))

    def compose(equation, *operands):
        labels, result = _parse(equation, [t.shape for t in operands])
        x, have = _without_repeats(operands[0], labels[0])
        for i in range(1, len(operands)):
            y, other = _without_repeats(operands[i], labels[i])
            keep = {*result, *(label for later in labels[i + 1 :] for label in later)}
            x, have = _contract(x, have, y, other, keep)
        x, have = _summed(x, have, result)
        order = [have.index(label) for label in result]
        if order != list(range(len(order))):
            return x.permute(*order)
        return x.clone() if x is operands[0] else x


def _tensordot_domain(draw):
    a = draw.shape((1, 3), high=3)
    number = draw.integer(0, len(a))
    if draw.boolean():
        return call(draw.real(a), draw.real((*a[len(a) - number :], *draw.shape((0, 1)))), number)
    axes = draw.permutation(len(a))[:number]
    b = (*draw.shape((0, 1)), *(a[i] for i in axes))
    return call(draw.real(a), draw.real(b), (axes, list(range(len(b) - number, len(b)))))


@op(
    "tensordot",
    domain=_tensordot_domain,
    formula="sum of a * b over pairs of axes",
    method=False,
    laws=(
        Linear("a"),
        Linear("b"),
    ),
)
class tensordot(Composite):
    """Sums products over pairs of axes: the last `dims` of `a` with the first of `b`, or dims=(axes of a, axes of b).

    The result has the other axes of `a`, then those of `b`. ValueError if sizes differ, IndexError for an axis out of range.
    """

    def prepare(a, b, dims=2):
        same_dtype("tensordot", a=a, b=b)
        if isinstance(dims, tg.Tensor):
            dims = dims.tolist()
        if isinstance(dims, (int, np.integer)):
            if not 0 <= dims <= min(a.ndim, b.ndim):
                raise ValueError(f"tensordot: dims {dims} does not suit tensors of {a.ndim} and {b.ndim} axes")
            dims = (tuple(range(a.ndim - dims, a.ndim)), tuple(range(dims)))
        left, right = ((d,) if isinstance(d, (int, np.integer)) else tuple(d) for d in dims)
        left = tuple([single_dim("tensordot", d, a.ndim) for d in left])
        right = tuple([single_dim("tensordot", d, b.ndim) for d in right])
        if len(left) != len(right) or len(set(left)) != len(left) or len(set(right)) != len(right):
            raise ValueError(f"tensordot: dims must pair as many different axes of a as of b, got {left} and {right}")
        for i, j in zip(left, right, strict=True):
            if a.shape[i] != b.shape[j]:
                raise ValueError(
                    f"tensordot: axis {i} of a, of shape {a.shape}, has size {a.shape[i]} and axis {j} of b, of shape "
                    f"{b.shape}, has size {b.shape[j]}; they must be equal"
                )
        return a, b, (left, right)

    def reference(a: Array, b: Array, dims=2) -> np.ndarray:
        return np.asarray(np.tensordot(a, b, dims))

    def compose(a, b, dims=2):
        left, right = dims
        a_kept = [i for i in range(a.ndim) if i not in left]
        b_kept = [i for i in range(b.ndim) if i not in right]
        size = math.prod([a.shape[i] for i in left])
        a_shape, b_shape = [a.shape[i] for i in a_kept], [b.shape[i] for i in b_kept]
        rows = a.permute(*a_kept, *left) if a_kept + list(left) != list(range(a.ndim)) else a
        columns = b.permute(*right, *b_kept) if list(right) + b_kept != list(range(b.ndim)) else b
        product = rows.reshape(math.prod(a_shape), size) @ columns.reshape(size, math.prod(b_shape))
        return product.reshape(*a_shape, *b_shape) if a_shape or b_shape else product.reshape(())


@op("kron", domain=lambda draw: call(draw.real(draw.shape((0, 3), high=2)), draw.real(draw.shape((0, 3), high=2))),
    formula="out[i * q + k, ...] = input[i, ...] * other[k, ...]", laws=(Linear("input"), Linear("other"),))  # fmt: skip
class kron(Composite):
    """The Kronecker product: every element of `input` times the whole of `other`.

    The shorter shape is filled up with leading ones.
    """

    def reference(input: Array, other: Array) -> np.ndarray:
        return np.asarray(np.kron(input, other))

    def compose(input, other):
        ndim = max(input.ndim, other.ndim)
        a = (1,) * (ndim - input.ndim) + input.shape
        b = (1,) * (ndim - other.ndim) + other.shape
        spread = input.reshape([s for pair in zip(a, (1,) * ndim, strict=True) for s in pair])
        tiles = other.reshape([s for pair in zip((1,) * ndim, b, strict=True) for s in pair])
        return (spread * tiles).reshape([m * n for m, n in zip(a, b, strict=True)])


def _cross_domain(draw):
    shape = list(draw.shape((1, 3), high=2))
    dim = draw.integer(0, len(shape) - 1)
    shape[dim] = 3
    other = [1 if i != dim and draw.boolean() else s for i, s in enumerate(shape)]
    return call(draw.real(shape), draw.real(other), dim=dim - len(shape))


@op(
    "linalg.cross",
    domain=_cross_domain,
    formula="out = input x other",
    method=False,
    laws=(
        Linear("input"),
        Symmetric("input", "other", sign=-1),
    ),
)
class linalg_cross(Op):
    """The cross product of vectors of three elements along `dim`; the other axes broadcast.

    ValueError unless both have size 3 there.
    """

    broadcasts = True
    promotes = ("input", "other")

    def prepare(input, other, *, dim=-1):
        axis = single_dim("linalg.cross", dim, input.ndim)
        if input.ndim != other.ndim or not input.ndim or input.shape[axis] != 3 or other.shape[axis] != 3:
            raise ValueError(
                f"linalg.cross: expected tensors of as many axes, with size 3 along dim {dim}; got shapes {input.shape} and "
                f"{other.shape}"
            )
        return input, other, axis

    def reference(input: Array, other: Array, *, dim: int = -1) -> np.ndarray:
        a, b = np.broadcast_arrays(np.moveaxis(input, dim, 0), np.moveaxis(other, dim, 0))
        products = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
        return np.stack(products, axis=dim)

    def grad_input(upstream, other, dim):
        return tg.linalg.cross(*_stretched(other, upstream), dim=dim)

    def grad_other(upstream, input, dim):
        return tg.linalg.cross(*_stretched(upstream, input), dim=dim)


def _stretched(a, b):
    shape = np.broadcast_shapes(a.shape, b.shape)
    return a.expand(shape), b.expand(shape)


@op("cross", domain=_cross_domain, formula="out = input x other")
class cross(Composite):
    """The cross product of vectors of three elements along `dim`, by default the first axis of size 3; see `linalg.cross`."""

    def prepare(input, other, dim=None):
        if dim is None:
            dim = next((i for i, s in enumerate(input.shape) if s == 3), None)
            if dim is None:
                raise ValueError(f"cross: no axis of size 3 in shape {input.shape}")
        return input, other, single_dim("cross", dim, input.ndim)

    def reference(input: Array, other: Array, dim=None) -> np.ndarray:
        shape = np.broadcast_shapes(input.shape, other.shape)
        return np.cross(np.broadcast_to(input, shape), np.broadcast_to(other, shape), axis=dim)

    def compose(input, other, dim=None):
        return tg.linalg.cross(input, other, dim=dim)
