"""Kernels that read and write along one axis by tensors of positions. See `gathering`, which calls them.

Arrays are seen as (lead, size, inner) with the axis in the middle. What an iteration writes belongs to it alone, and is written in the
order of the positions: no atomic operations, and the same bits at any number of threads. Kernels do not check positions, which are
unsigned: Numba would look at the sign of others.
"""

from __future__ import annotations

from tinygrad_cv.kernels.jit import kernel, prange

_POSITIONS = 256  # positions along the axis for an iteration that writes only where it reads positions
_COLUMNS = (
    64  # elements of `inner` for an iteration that goes through all positions: their column of the table stays in the cache
)


@kernel
def lines_selected(x, index, out):
    """out[a, m, c] = x[a, index[m], c]. Pieces of the positions are shared out."""
    size, inner = out.shape[1], out.shape[2]
    pieces = -(-size // _POSITIONS)
    for t in prange(out.shape[0] * pieces):
        a, start = t // pieces, t % pieces * _POSITIONS
        stop = min(size, start + _POSITIONS)
        if inner == 1:
            row, result = x[a].reshape(-1), out[a].reshape(-1)
            for m in range(start, stop):
                result[m] = row[index[m]]
        else:
            for m in range(start, stop):
                line, copy = x[a, index[m]], out[a, m]
                for c in range(inner):
                    copy[c] = line[c]


@kernel
def grid_selected(x, index, out):
    """out[a, m, c] = x[a, index[a, m, c], c]. Pieces of the positions, or of the columns, are shared out."""
    size, inner = out.shape[1], out.shape[2]
    pieces = -(-size // (16 * _POSITIONS)) if inner == 1 else -(-inner // _COLUMNS)
    for t in prange(out.shape[0] * pieces):
        a, piece = t // pieces, t % pieces
        if inner == 1:
            row, where, result = x[a].reshape(-1), index[a].reshape(-1), out[a].reshape(-1)
            for m in range(16 * _POSITIONS * piece, min(size, 16 * _POSITIONS * (piece + 1))):
                result[m] = row[where[m]]
        else:
            table = x[a]
            for m in range(size):
                line, copy = index[a, m], out[a, m]
                for c in range(_COLUMNS * piece, min(inner, _COLUMNS * (piece + 1))):
                    copy[c] = table[line[c], c]


@kernel
def lines_added(source, index, alpha, out):
    """out[a, index[m], c] += alpha * source[a, m, c]. Pairs of a and columns are shared out."""
    size, inner = source.shape[1], source.shape[2]
    pieces = -(-inner // (4 * _COLUMNS))
    for t in prange(out.shape[0] * pieces):
        a, start = t // pieces, t % pieces * 4 * _COLUMNS
        if inner == 1:
            row, result = source[a].reshape(-1), out[a].reshape(-1)
            for m in range(size):
                result[index[m]] += alpha * row[m]
        else:
            stop = min(inner, start + 4 * _COLUMNS)
            for m in range(size):
                line, sums = source[a, m, start:stop], out[a, index[m], start:stop]
                for c in range(stop - start):
                    sums[c] += alpha * line[c]


@kernel
def grid_added(source, index, out):
    """out[a, index[a, m, c], c] += source[a, m, c]. Pairs of a and columns are shared out."""
    size, inner = source.shape[1], source.shape[2]
    pieces = -(-inner // _COLUMNS)
    for t in prange(out.shape[0] * pieces):
        a, start = t // pieces, t % pieces * _COLUMNS
        if inner == 1:
            row, places, result = source[a].reshape(-1), index[a].reshape(-1), out[a].reshape(-1)
            for m in range(size):
                result[places[m]] += row[m]
        else:
            table = out[a]
            for m in range(size):
                line, at = source[a, m], index[a, m]
                for c in range(start, min(inner, start + _COLUMNS)):
                    table[at[c], c] += line[c]
