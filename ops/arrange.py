"""Operators that join tensors and cut them up."""

from __future__ import annotations

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Linear, Op, Tensor, call, op
from .pieces import split_pieces, unbind_pieces
from .shape import canonical_axis

# Joining --------------------------------------------------------------------------------------------------------------


def _operands(name: str, tensors) -> list[Tensor]:
    """The tensors to join, in their common dtype; TypeError for anything else, ValueError for none."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError(f"{name}: expected at least one tensor, got an empty list")
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a list of Tensors, it holds a {type(tensor).__name__}")
    dtype = tensors[0]._data.dtype
    if any([tensor._data.dtype != dtype for tensor in tensors]):
        dtype = tg.dtypes.result_type(tensors)
        tensors = [tensor.to(dtype) for tensor in tensors]
    return tensors


def _cat_arguments(name: str, tensors, dim: int) -> tuple[list[Tensor], int]:
    tensors = _operands(name, tensors)
    if any([t._data.ndim != tensors[0]._data.ndim for t in tensors]):
        tensors = [t for t in tensors if t.shape != (0,)] or tensors  # as in PyTorch, "nothing" joins anything
    first = tensors[0]._data.shape
    if not first:
        raise ValueError(f"{name}: 0-d tensors have no axis to join along; use stack")
    axis = canonical_axis(name, dim, len(first))
    for i, tensor in enumerate(tensors):
        shape = tensor._data.shape
        if shape == first:
            continue
        if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise ValueError(
                f"{name}: tensor {i} has shape {shape}, which does not fit {first}: sizes must be equal on every axis except "
                f"dim {axis}"
            )
    return tensors, axis


def _cat_gradients(upstream, ctx, dim):
    pieces = split_pieces(upstream, [shape[dim] for shape in ctx.input_shapes], dim)
    return [piece if needed else None for piece, needed in zip(pieces, ctx.needs, strict=True)]


def _cat_domain(draw):
    shape = list(draw.shape((1, 3), high=3))
    dim = draw.integer(0, len(shape) - 1)
    tensors = []
    for _ in range(draw.integer(1, 3)):
        shape[dim] = draw.integer(1, 3)
        tensors.append(draw.real(shape))
    return call(tensors, draw.choice([dim, dim - len(shape)]))


@op(
    "cat",
    domain=_cat_domain,
    formula="out = tensors one after the other along dim",
    method=False,
    aliases=("concat", "concatenate"),
    laws=(Linear("tensors"),),
)
class cat(Op):
    """The tensors one after the other along axis `dim`, in new memory and in their promoted dtype.

    Shapes must agree on all other axes (ValueError); tensors of shape (0,) are skipped.
    """

    def prepare(tensors, dim=0):
        return _cat_arguments("cat", tensors, dim)

    def reference(tensors: list[Array], dim: int = 0) -> np.ndarray:
        return np.concatenate(tensors, axis=dim)

    backward = _cat_gradients


def _stack_domain(draw):
    shape = draw.shape((0, 3), high=3)
    return call([draw.real(shape) for _ in range(draw.integer(1, 3))], draw.integer(-len(shape) - 1, len(shape)))


@op("stack", domain=_stack_domain, formula="out = tensors along a new axis dim", method=False, laws=(Linear("tensors"),))
class stack(Op):
    """The tensors, all of one shape, side by side along a new axis at position `dim`, in new memory.

    ValueError if the shapes differ, IndexError if `dim` is not in -ndim - 1 .. ndim.
    """

    def prepare(tensors, dim=0):
        tensors = _operands("stack", tensors)
        shape = tensors[0]._data.shape
        n = len(shape) + 1
        if not -n <= dim < n:
            raise IndexError(f"stack: dim {dim} is out of range for tensors of shape {shape}; use {-n}..{n - 1}")
        for i, tensor in enumerate(tensors):
            if tensor._data.shape != shape:
                raise ValueError(f"stack: tensor {i} has shape {tensor.shape}, expected {shape}; all shapes must be equal")
        return tensors, dim % n

    def reference(tensors: list[Array], dim: int = 0) -> np.ndarray:
        return np.stack(tensors, axis=dim)

    def backward(upstream, ctx, dim):
        return [piece if needed else None for piece, needed in zip(unbind_pieces(upstream, dim), ctx.needs, strict=True)]


def _same_shapes_domain(draw):
    shape = draw.shape((0, 3), high=3)
    return call([draw.real(shape) for _ in range(draw.integer(1, 3))])


@op("hstack", domain=_same_shapes_domain, formula="out = tensors side by side", method=False)
class hstack(Composite):
    """The tensors joined along axis 1, or along axis 0 where they are 1-D (0-d tensors count as 1-D)."""

    def reference(tensors: list[Array]) -> np.ndarray:
        return np.hstack(tensors)

    def compose(tensors):
        tensors = [tg.atleast_1d(t) for t in tensors]
        return tg.cat(tensors, 0 if tensors and tensors[0].ndim == 1 else 1)


@op("vstack", domain=_same_shapes_domain, formula="out = tensors on top of each other", method=False, aliases=("row_stack",))
class vstack(Composite):
    """The tensors, each as at least 2-D, joined along axis 0."""

    def reference(tensors: list[Array]) -> np.ndarray:
        return np.vstack(tensors)

    def compose(tensors):
        return tg.cat([tg.atleast_2d(t) for t in tensors], 0)


def _columns_domain(draw):
    rows = draw.integer(1, 3)
    shapes = [draw.choice([(rows,), (rows, 1), (rows, 2)]) for _ in range(draw.integer(1, 3))]
    return call([draw.real(shape) for shape in shapes] if draw.boolean() else [draw.real(()), draw.real(())])


@op("column_stack", domain=_columns_domain, formula="out = tensors side by side, vectors as columns", method=False)
class column_stack(Composite):
    """The tensors joined along axis 1; those of fewer than two axes stand as columns (n, 1)."""

    def reference(tensors: list[Array]) -> np.ndarray:
        return np.column_stack(tensors)

    def compose(tensors):
        return tg.cat([t if t.ndim > 1 else t.reshape(-1, 1) for t in tensors], 1)


@op("dstack", domain=_same_shapes_domain, formula="out = tensors behind one another", method=False)
class dstack(Composite):
    """The tensors, each as at least 3-D (see `atleast_3d`), joined along axis 2."""

    def reference(tensors: list[Array]) -> np.ndarray:
        return np.dstack(tensors)

    def compose(tensors):
        return tg.cat([tg.atleast_3d(t) for t in tensors], 2)


# Cutting --------------------------------------------------------------------------------------------------------------


def _narrow_domain(draw):
    shape = draw.shape((1, 3))
    dim = draw.integer(0, len(shape) - 1)
    start = draw.integer(0, shape[dim] - 1)
    return call(draw.real(shape), draw.choice([dim, dim - len(shape)]), start, draw.integer(1, shape[dim] - start))


@op("narrow", domain=_narrow_domain, formula="out = input[start : start + length] along dim")
class narrow(Op):
    """A view of the `length` elements from `start` along axis `dim`. A negative start counts from the end.

    IndexError if the range leaves the axis, or the tensor is 0-d.
    """

    view = True

    def prepare(input, dim, start, length):
        shape = input._data.shape
        if not shape:
            raise IndexError("narrow: a 0-d tensor has no axis to cut")
        axis = canonical_axis("narrow", dim, len(shape))
        size, start, length = shape[axis], int(start), int(length)
        begin = start + size if start < 0 else start
        if length < 0 or begin < 0 or begin + length > size:
            raise IndexError(f"narrow: start {start} and length {length} leave axis {axis} of size {size} in shape {shape}")
        return input, axis, begin, length

    def reference(input: Array, dim: int, start: int, length: int) -> np.ndarray:
        return input[(slice(None),) * dim + (slice(start, start + length),)]

    def grad_input(upstream, ctx, dim, start, length):
        where = (slice(None),) * dim + (slice(start, start + length),)
        return tg.getitem_backward(upstream, ctx.input_shapes[0], where)


def _select_domain(draw):
    shape = draw.shape((1, 3))
    dim = draw.integer(-len(shape), len(shape) - 1)
    return call(draw.real(shape), dim, draw.integer(-shape[dim], shape[dim] - 1))


@op("select", domain=_select_domain, formula="out = input[index] along dim")
class select(Op):
    """A view of `input` at position `index` of axis `dim`, which disappears. IndexError out of range."""

    view = True

    def prepare(input, dim, index):
        shape = input._data.shape
        if not shape:
            raise IndexError("select: a 0-d tensor has no axis to select from")
        axis = canonical_axis("select", dim, len(shape))
        size, index = shape[axis], index.__index__()
        if not -size <= index < size:
            raise IndexError(f"select: index {index} is out of range for axis {axis} of size {size} in shape {shape}")
        return input, axis, index % size

    def reference(input: Array, dim: int, index: int) -> np.ndarray:
        return input[(slice(None),) * dim + (index, ...)]

    def grad_input(upstream, ctx, dim, index):
        return tg.getitem_backward(upstream, ctx.input_shapes[0], (slice(None),) * dim + (index, ...))


def _pieces(name: str, shape: tuple[int, ...], sizes, dim: int) -> tuple[int, list[int]]:
    """The axis and the sizes of the pieces that `split` cuts it into."""
    if not shape:
        raise ValueError(f"{name}: a 0-d tensor has no axis to cut")
    axis = canonical_axis(name, dim, len(shape))
    size = shape[axis]
    if isinstance(sizes, (tuple, list)):
        if any(s < 0 for s in sizes) or sum(sizes) != size:
            raise ValueError(f"{name}: sections {list(sizes)} must be 0 or more and add up to {size}, like axis {axis}")
        return axis, list(sizes)
    if sizes < 0 or (sizes == 0 and size):
        raise ValueError(f"{name}: the size of a piece must be positive, got {sizes}")
    if size == 0:
        return axis, [0]
    return axis, [min(sizes, size - start) for start in range(0, size, sizes)]


def _cut_array(array: np.ndarray, axis: int, sizes: list[int]) -> tuple[np.ndarray, ...]:
    return tuple(np.split(array, np.cumsum(sizes)[:-1], axis))


@op(
    "split",
    keywords={"split_size": "split_size_or_sections"},
    domain=lambda draw: (
        call(draw.real((5, 3, 4)), draw.choice([2, 3, 7]), draw.integer(-3, 2))
        if draw.boolean()
        else call(draw.real((5, 3)), [1, 0, 4], 0)
    ),
    formula="(out_0, out_1, ...) = input cut along dim",
)
class split(Composite):
    """A tuple of views: `tensor` cut along `dim` into pieces of one size (the last may be smaller) or of the listed sizes.

    ValueError if the listed sizes do not add up to the size of the axis.
    """

    def reference(tensor: Array, split_size_or_sections, dim: int = 0) -> tuple[np.ndarray, ...]:
        return _cut_array(tensor, *_pieces("split", tensor.shape, split_size_or_sections, dim))

    def compose(tensor, split_size_or_sections, dim=0):
        axis, sizes = _pieces("split", tensor.shape, split_size_or_sections, dim)
        return split_pieces(tensor, sizes, axis)


def _chunk_sizes(shape: tuple[int, ...], chunks: int, dim: int) -> tuple[int, list[int]]:
    if chunks < 1:
        raise ValueError(f"chunk: chunks must be at least 1, got {chunks}")
    if not shape:
        raise ValueError("chunk: a 0-d tensor has no axis to cut")
    axis = canonical_axis("chunk", dim, len(shape))
    if shape[axis] == 0:
        return axis, [0] * chunks
    return _pieces("chunk", shape, -(-shape[axis] // chunks), dim)


@op(
    "chunk",
    domain=lambda draw: call(draw.real((5, 3, 4)), draw.integer(1, 6), draw.integer(-3, 2)),
    formula="(out_0, out_1, ...) = input cut along dim into at most `chunks` equal pieces",
)
class chunk(Composite):
    """A tuple of views: `input` cut along `dim` into pieces of ceil(size / chunks), the last maybe smaller."""

    def reference(input: Array, chunks: int, dim: int = 0) -> tuple[np.ndarray, ...]:
        return _cut_array(input, *_chunk_sizes(input.shape, chunks, dim))

    def compose(input, chunks, dim=0):
        axis, sizes = _chunk_sizes(input.shape, chunks, dim)
        return split_pieces(input, sizes, axis)


@op(
    "unbind",
    domain=lambda draw: call(draw.real(draw.shape(3, high=3)), draw.integer(-3, 2)),
    formula="(input[0], input[1], ...) along dim",
)
class unbind(Composite):
    """A tuple of views, one for each position of axis `dim`, without that axis."""

    def reference(input: Array, dim: int = 0) -> tuple[np.ndarray, ...]:
        return tuple(np.moveaxis(input, dim, 0))

    def compose(input, dim=0):
        if not input.ndim:
            raise ValueError("unbind: a 0-d tensor has no axis to cut")
        return unbind_pieces(input, canonical_axis("unbind", dim, input.ndim))


def _meshgrid_domain(draw):
    return call(*[draw.real(draw.shape((0, 1))) for _ in range(draw.integer(1, 3))], indexing=draw.choice(["ij", "xy"]))


@op(
    "meshgrid",
    domain=_meshgrid_domain,
    formula="out_k[i_0, ..., i_n] = tensors_k[i_k]",
    method=False,
)
class meshgrid(Composite):
    """A tuple of views, one for each 1-D (or 0-d) tensor, repeated along the axes of the others.

    indexing: "ij" gives shape (n_0, n_1, ...); "xy" swaps the first two axes, as for points of a plane.
    """

    def reference(*tensors: list[Array], indexing: str = "ij") -> tuple[np.ndarray, ...]:
        return tuple(np.meshgrid(*tensors, indexing=indexing))

    def compose(*tensors, indexing="ij"):
        if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
            tensors = tuple(tensors[0])
        tensors = _operands("meshgrid", tensors)
        if indexing not in ("ij", "xy"):
            raise ValueError(f'meshgrid: indexing must be "ij" or "xy", got {indexing!r}')
        for i, tensor in enumerate(tensors):
            if tensor.ndim > 1:
                raise ValueError(f"meshgrid: tensor {i} has shape {tensor.shape}, expected at most one axis")
        shape = [t.numel() for t in tensors]
        order = list(range(len(tensors)))
        if indexing == "xy" and len(tensors) > 1:
            shape[0], shape[1], order[0], order[1] = shape[1], shape[0], 1, 0
        columns = [[-1 if k == axis else 1 for k in range(len(shape))] for axis in order]
        return tuple([t.reshape(column).expand(shape) for t, column in zip(tensors, columns, strict=True)])
