"""Products of several matrices, powers, pseudo-inverses, ranks and the QR factorisation."""

from __future__ import annotations

import itertools

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Involution, Op, call, op
from .linalg import lapack, require_matrix, with_singular_values
from .linear import same_dtype
from .reduction import single_dim


def _multi_dot_domain(draw):
    sizes = [draw.integer(1, 4) for _ in range(draw.integer(3, 5))]
    shapes = [list(pair) for pair in itertools.pairwise(sizes)]
    if draw.boolean():
        shapes[0] = shapes[0][1:]
    if draw.boolean():
        shapes[-1] = shapes[-1][:1]
    return call([draw.real(s) for s in shapes])


def _cheapest_order(sizes: list[int]) -> list[list[int]]:
    """Where to split each run of matrices, matrix i being (sizes[i], sizes[i + 1]), for the fewest multiplications.

    Dynamic programming: Cormen, Leiserson, Rivest, Stein, Introduction to Algorithms, 15.2.
    """
    n = len(sizes) - 1
    cost = [[0] * n for _ in range(n)]
    split = [[0] * n for _ in range(n)]
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            j = i + length - 1
            cost[i][j], split[i][j] = min(
                (cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            )
    return split


@op("linalg.multi_dot", domain=_multi_dot_domain, formula="tensors[0] @ tensors[1] @ ... @ tensors[-1]")
class multi_dot(Composite):
    """The product of two or more matrices, in the order that needs the fewest multiplications.

    The first and the last may be vectors.
    """

    def prepare(tensors):
        tensors = tuple(tensors)
        if len(tensors) < 2:
            raise ValueError(f"linalg.multi_dot: expected at least two tensors, got {len(tensors)}")
        same_dtype("linalg.multi_dot", **{f"tensor {i}": t for i, t in enumerate(tensors)})
        for i, t in enumerate(tensors):
            if t.ndim != 2 and not (t.ndim == 1 and i in (0, len(tensors) - 1)):
                raise ValueError(
                    f"linalg.multi_dot: tensor {i} has shape {t.shape}; only the first and the last may be vectors"
                )
            if i and t.shape[0] != tensors[i - 1].shape[-1]:
                raise ValueError(
                    f"linalg.multi_dot: tensors {i - 1} and {i} of shapes {tensors[i - 1].shape} and {t.shape} do not fit"
                )
        return (tensors,)

    def reference(tensors: list[Array]) -> np.ndarray:
        return np.asarray(np.linalg.multi_dot(tensors))

    def compose(tensors):
        first = 1 if tensors[0].ndim == 1 else tensors[0].shape[0]
        sizes = [first, *(t.shape[0] for t in tensors[1:]), 1 if tensors[-1].ndim == 1 else tensors[-1].shape[1]]
        split = _cheapest_order(sizes)

        def product(i: int, j: int):
            return tensors[i] if i == j else product(i, split[i][j]) @ product(split[i][j] + 1, j)

        return product(0, len(tensors) - 1)


def _vecdot_domain(draw):
    shape = draw.shape((1, 3))
    dim = draw.integer(-len(shape), -1)
    other = [1 if i != dim % len(shape) and draw.boolean() else s for i, s in enumerate(shape)]
    return call(draw.real(shape), draw.real(other), dim=dim)


@op("linalg.vecdot", domain=_vecdot_domain, formula="sum of x * y along dim")
class vecdot(Composite):
    """The inner products of vectors along `dim`; the other axes broadcast. ValueError if the sizes along `dim` differ."""

    def prepare(x, y, *, dim=-1):
        wide = x if x.ndim >= y.ndim else y
        axis = single_dim("linalg.vecdot", dim, wide.ndim) - wide.ndim
        if min(x.ndim, y.ndim) < -axis or x.shape[axis] != y.shape[axis]:
            raise ValueError(f"linalg.vecdot: shapes {x.shape} and {y.shape} must have one size along dim {dim}")
        return x, y, axis

    def reference(x: Array, y: Array, *, dim: int = -1) -> np.ndarray:
        return np.asarray(np.vecdot(*np.broadcast_arrays(x, y), axis=dim))

    def compose(x, y, *, dim=-1):
        return (x * y).sum(dim)


def _power_domain(draw):
    n = draw.integer(1, 3)
    return call(with_singular_values(draw, draw.shape((0, 1), high=2), n, n) * 0.7, draw.integer(-2, 4))


@op("linalg.matrix_power", domain=_power_domain, formula="A multiplied n times; n < 0: of the inverse")
class linalg_matrix_power(Composite):
    """The n-th power of square matrices, by repeated squaring; n = 0 is the identity, n < 0 a power of the inverse."""

    def prepare(A, n):
        require_matrix("linalg.matrix_power", A, square=True)
        if not isinstance(n, (int, np.integer)):
            raise TypeError(f"linalg.matrix_power: n must be an integer, got {n!r}")
        return A, int(n)

    def reference(A: Array, n: int) -> np.ndarray:
        return np.linalg.matrix_power(A, n)

    def compose(A, n):
        if n == 0:
            return A * 0.0 + tg.eye(A.shape[-1], dtype=A.dtype)
        A = tg.linalg.inv(A) if n < 0 else A
        left, result = abs(n), None
        while left:
            if left & 1:
                result = A if result is None else result @ A
            left >>= 1
            A = A @ A if left else A
        return result.clone() if n == 1 else result


@op("matrix_power", domain=_power_domain, formula="input multiplied n times; n < 0: of the inverse")
class matrix_power(Composite):
    """The n-th power of square matrices: `linalg.matrix_power`."""

    def reference(input: Array, n: int) -> np.ndarray:
        return np.linalg.matrix_power(input, n)

    def compose(input, n):
        return tg.linalg.matrix_power(input, n)


def _rank_domain(draw):
    n, m = draw.integer(1, 4), draw.integer(1, 4)
    A = with_singular_values(draw, draw.shape((0, 1), high=2), n, m)
    if draw.boolean():  # one rank less: the last row repeats the first
        A[..., -1, :] = A[..., 0, :]
    return call(A)


def _cutoff(A: np.ndarray, s: np.ndarray, atol, rtol) -> np.ndarray:
    """The singular value up to which others count as zero: max(atol, rtol * largest)."""
    if rtol is None:
        rtol = max(A.shape[-2:]) * np.finfo(A.dtype).eps if atol is None else 0.0
    return np.maximum(atol or 0.0, rtol * np.max(s, axis=-1, initial=0.0, keepdims=True))


def _rank(A: np.ndarray, atol, rtol) -> np.ndarray:
    s = np.linalg.svd(A, compute_uv=False)
    return np.add.reduce(s > _cutoff(A, s, atol, rtol), axis=-1, dtype=np.int64)


def _checked_symmetric(name: str, A: np.ndarray) -> np.ndarray:
    """(A + A^T) / 2; ValueError where A differs from A^T by more than a thousandth of its largest element."""
    mirror = np.swapaxes(A, -1, -2)
    difference = np.max(np.abs(A - mirror), initial=0.0)
    if difference > 1e-3 * np.max(np.abs(A), initial=0.0):
        raise ValueError(
            f"{name}: expected symmetric matrices for hermitian=True, but A of shape {A.shape} differs from its transpose by up to "
            f"{difference:.3g}; to use the lower triangle alone, pass A.tril() + A.tril(-1).mT"
        )
    return (A + mirror) / 2


@op("linalg.matrix_rank", domain=_rank_domain, formula="number of singular values above max(atol, rtol * largest)")
class matrix_rank(Op):
    """The rank of (..., n, m), as int64: how many singular values exceed max(atol, rtol * the largest). Not differentiable.

    rtol defaults to max(n, m) * eps of the dtype, or to 0 where atol is given. hermitian: A is symmetric, which is checked.
    """

    differentiable = False

    def prepare(A, *, atol=None, rtol=None, hermitian=False):
        require_matrix("linalg.matrix_rank", A, square=hermitian)
        return A, atol, rtol, bool(hermitian)

    def reference(A: Array, *, atol=None, rtol=None, hermitian: bool = False) -> np.ndarray:
        if hermitian:
            A = _checked_symmetric("linalg.matrix_rank", A)
        return np.asarray(
            lapack("linalg.matrix_rank", "the singular values do not converge", lambda a: (_rank(a, atol, rtol),), A)[0]
        )


def _pinv(A: np.ndarray, atol, rtol) -> np.ndarray:
    u, s, vh = np.linalg.svd(A, full_matrices=False)
    kept = s > _cutoff(A, s, atol, rtol)
    inverse = np.where(kept, 1 / np.where(kept, s, 1), 0)
    return np.swapaxes(u * inverse[..., None, :] @ vh, -1, -2)


def _pinv_domain(draw):
    n, m = draw.integer(1, 3), draw.integer(1, 3)
    return call(with_singular_values(draw, draw.shape((0, 1), high=2), n, m))


@op("linalg.pinv", domain=_pinv_domain, formula="pseudo-inverse A+ of A",
    source="G. H. Golub and V. Pereyra, SIAM J. Numer. Anal. 10 (1973), eq. 4.12", laws=(Involution("A"),))  # fmt: skip
class pinv(Op):
    """The Moore-Penrose pseudo-inverse (..., m, n) of (..., n, m).

    Singular values up to max(atol, rtol * the largest) count as 0. rtol defaults to max(n, m) * eps of the dtype, or to 0
    where atol is given. hermitian: A is symmetric, which is checked. The gradient is that at constant rank.
    """

    def prepare(A, *, atol=None, rtol=None, hermitian=False):
        require_matrix("linalg.pinv", A, square=hermitian)
        return A, atol, rtol, bool(hermitian)

    def reference(A: Array, *, atol=None, rtol=None, hermitian: bool = False) -> np.ndarray:
        if hermitian:
            A = _checked_symmetric("linalg.pinv", A)
        return lapack("linalg.pinv", "the singular values do not converge", _pinv, A, atol=atol, rtol=rtol)

    def grad_A(upstream, A, out, hermitian):
        G, P = upstream.mT, out
        mixed = P @ P.mT
        left = G @ mixed
        mirrored = P.mT @ P
        right = mirrored @ G
        grad = -(P.mT @ upstream @ P.mT) + (left - A @ (P @ left)) + (right - (right @ P) @ A)
        return (grad + grad.mT) * 0.5 if hermitian else grad


def _qr_domain(draw):
    n, m = draw.integer(1, 4), draw.integer(1, 3)
    A = draw.real((*draw.shape((0, 1), high=2), n, m)) * 0.3 + 2 * np.eye(n, m)
    return call(A, draw.choice(["reduced", "complete"]) if n <= m else "reduced")


def _qr_gradient(Q, R, of_q, of_r):
    """The gradient for A = Q R with a square R: (of_q + Q copyltu(M)) R^-T, M = R of_r^T - of_q^T Q."""
    M = None
    if of_r is not None:
        M = R @ of_r.mT
    if of_q is not None:
        turn = of_q.mT @ Q
        M = -turn if M is None else M - turn
    grad = Q @ (M.tril() + M.tril(-1).mT)
    if of_q is not None:
        grad = grad + of_q
    return tg.linalg.solve(R.mT, grad, left=False)


@op("linalg.qr", domain=_qr_domain, formula="Q, R with A = Q R",
    source="S. F. Walter and L. Lehmann, arXiv:1009.6112; wide matrices by column blocks")  # fmt: skip
class qr(Op):
    """(Q, R) with A = Q R for A (..., n, m): orthonormal columns Q and upper triangular R.

    mode: "reduced" (Q (..., n, k), R (..., k, m), k = min(n, m)), "complete" (Q (..., n, n), R (..., n, m)), "r" (an empty
    Q). The gradient needs independent first k columns; RuntimeError for it in mode "r", and in mode "complete" where n > m.
    """

    outputs = ("Q", "R")

    def prepare(A, mode="reduced"):
        require_matrix("linalg.qr", A)
        if mode not in ("reduced", "complete", "r"):
            raise ValueError(f"linalg.qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
        return A, mode

    def reference(A: Array, mode: str = "reduced"):
        if mode == "r":
            return np.zeros((0,), A.dtype), lapack("linalg.qr", "", np.linalg.qr, A, mode="r")
        return lapack("linalg.qr", "", lambda a: tuple(np.linalg.qr(a, mode)), A)

    def grad_A(upstreams, A, Q, R, mode, ctx):
        of_q, of_r = upstreams
        n, m = ctx.input_shapes[0][-2:]
        if mode == "r" or (mode == "complete" and n > m):
            raise RuntimeError(
                f"linalg.qr: mode {mode!r} has no derivative for matrices of shape {ctx.input_shapes[0]}; use mode='reduced'"
            )
        if n >= m:
            return _qr_gradient(Q, R, of_q, of_r)
        # A = [X Y] and R = [U V] with X = Q U and Y = Q V, so that V = Q^T Y depends on Q.
        Y, U = A.narrow(-1, n, m - n), R.narrow(-1, 0, n)
        of_u = of_v = None
        if of_r is not None:
            of_u, of_v = of_r.narrow(-1, 0, n), of_r.narrow(-1, n, m - n)
            of_q = Y @ of_v.mT if of_q is None else of_q + Y @ of_v.mT
        of_x = _qr_gradient(Q, U, of_q, of_u)
        of_y = tg.zeros_like(Y) if of_v is None else Q @ of_v
        return tg.cat([of_x, of_y], -1)
