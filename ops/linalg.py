"""Inverses, determinants and factorisations of (batches of) matrices, through NumPy and LAPACK. Norms are in norms.py.

The rules follow M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation"
(2008), where no other source is named. They are written in these same operators, so they differentiate again.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_cv as tg

from ..extend import Array, Composite, Homogeneous, Involution, Linear, Op, call, op
from .linear import fitted, same_dtype


class LinAlgError(RuntimeError):
    """A matrix does not allow what was asked of it: it is singular, or not positive definite."""


def require_matrix(name: str, input, square: bool = False) -> None:
    """ValueError unless `input` is a floating (..., n, m), or with `square` (..., n, n); TypeError for another dtype."""
    if input.ndim < 2 or (square and input.shape[-1] != input.shape[-2]):
        raise ValueError(
            f"{name}: expected {'square matrices (..., n, n)' if square else 'matrices (..., n, m)'}, got shape {input.shape}"
        )
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating tensor, got {input.dtype}; use .float()")


def lapack(name: str, problem: str, function, *arrays, **options):
    """Calls a function of numpy.linalg.

    Its LinAlgError becomes ours, with the operator's name. float16 goes through float32.
    """
    half = arrays[0].dtype == np.float16
    try:
        result = function(*(a.astype(np.float32) if half else a for a in arrays), **options)
    except np.linalg.LinAlgError as error:
        shapes = " and ".join(str(a.shape) for a in arrays)
        raise LinAlgError(f"{name}: {problem} (shape {shapes})") from error
    if not half:
        return result
    return tuple(r.astype(np.float16) for r in result) if isinstance(result, tuple) else result.astype(np.float16)


def symmetric_part(A: np.ndarray, upper: bool) -> np.ndarray:
    """The symmetric matrices that the upper or lower triangles of A (..., n, n) stand for.

    Where a matrix differs from its transpose by rounding only (a ten-thousandth of its largest element), their mean, of which the
    symmetric gradient of the operators here is the true one.
    """
    mirror = np.swapaxes(A, -1, -2)
    triangle = np.triu(A) + np.swapaxes(np.triu(A, 1), -1, -2) if upper else np.tril(A) + np.swapaxes(np.tril(A, -1), -1, -2)
    difference = np.max(np.abs(A - mirror), axis=(-2, -1), initial=0.0, keepdims=True)
    rounded = difference <= 1e-4 * np.max(np.abs(A), axis=(-2, -1), initial=0.0, keepdims=True)
    return np.where(rounded, (A + mirror) / 2, triangle)


def rotation(draw, n: int, batch=()) -> np.ndarray:
    """Orthogonal matrices (..., n, n)."""
    return np.linalg.qr(draw.real((*batch, n, n)) + 3 * np.eye(n))[0]


def with_singular_values(draw, batch, n: int, m: int) -> np.ndarray:
    """Matrices (..., n, m) whose singular values lie apart, between about 0.6 and 3."""
    k = min(n, m)
    values = 0.7 + 0.7 * np.arange(k) + draw.real((*batch, k), -0.1, 0.1)
    return rotation(draw, n, batch)[..., :k] * values[..., None, :] @ np.swapaxes(rotation(draw, m, batch)[..., :k], -1, -2)


def _square_domain(draw):
    n = draw.integer(1, 3)
    return call(with_singular_values(draw, draw.shape((0, 1), high=2), n, n))


def _symmetric(draw, low: float) -> np.ndarray:
    """Symmetric matrices whose eigenvalues lie apart, the smallest near `low`."""
    n, batch = draw.integer(1, 3), draw.shape((0, 1), high=2)
    q = rotation(draw, n, batch)
    values = low + 0.8 * np.arange(n) + draw.real((*batch, n), -0.1, 0.1)
    matrix = q * values[..., None, :] @ np.swapaxes(q, -1, -2)
    return (matrix + np.swapaxes(matrix, -1, -2)) / 2


@op("linalg.inv", domain=_square_domain, formula="A^-1", source="Giles 2008, 2.2.3", aliases=("inverse",),
    keywords={"input": "A"}, laws=(Involution("A"), Homogeneous("A", degree=-1),))  # fmt: skip
class inv(Op):
    """The inverse of square matrices (..., n, n). LinAlgError for a singular one."""

    def prepare(A):
        require_matrix("linalg.inv", A, square=True)
        return (A,)

    def reference(A: Array) -> np.ndarray:
        return lapack("linalg.inv", "a matrix is singular", np.linalg.inv, A)

    def grad_A(upstream, out):
        transposed = out.mT
        return -(transposed @ upstream @ transposed)


def _solve_domain(draw):
    n, k = draw.integer(1, 3), draw.integer(1, 3)
    batch = draw.shape((0, 1), high=2)
    A = with_singular_values(draw, batch, n, n)
    left = draw.boolean()
    matrix = (n, k) if left else (k, n)
    options = [(*batch, *matrix), matrix, (2, *batch, *matrix)] + ([(n,), (*batch, n)] if left else [])
    shapes = [s for s in options if len(s) != len(batch) + 1 or (left and s == (*batch, n))]
    return call(A, draw.real(draw.choice(shapes)), left=left)


def _is_vector(A_shape, B_shape) -> bool:
    return len(B_shape) == 1 or (len(B_shape) == len(A_shape) - 1 and B_shape == A_shape[:-1])


@op(
    "linalg.solve",
    domain=_solve_domain,
    formula="X with A X = B (left) or X A = B",
    source="Giles 2008, 2.3.1",
    laws=(Linear("B"),),
)
class solve(Op):
    """The solution X of A X = B, or with left=False of X A = B, for A (..., n, n) and B (..., n, k) or a vector (..., n).

    Leading axes broadcast; B is a vector if it is 1-D or has the shape of A without its last axis. LinAlgError for a
    singular A.
    """

    def prepare(A, B, *, left=True):
        require_matrix("linalg.solve", A, square=True)
        same_dtype("linalg.solve", A=A, B=B)
        vector = bool(B.ndim) and _is_vector(A.shape, B.shape)
        if vector and not left:
            raise ValueError(f"linalg.solve: with left=False, B must be matrices (..., k, n), got shape {B.shape}")
        axis = -1 if vector or not left else -2
        if B.ndim < -axis or B.shape[axis] != A.shape[-1]:
            raise ValueError(
                f"linalg.solve: A {A.shape} and B {B.shape} do not fit: axis {axis} of B must have size {A.shape[-1]}"
            )
        if not vector:
            for m, n in zip(A.shape[-3::-1], B.shape[-3::-1], strict=False):
                if m != n and m != 1 and n != 1:
                    raise ValueError(f"linalg.solve: the leading axes of A {A.shape} and B {B.shape} do not broadcast")
        return A, B, bool(left)

    def reference(A: Array, B: Array, *, left: bool = True) -> np.ndarray:
        vector = _is_vector(A.shape, B.shape)
        right = B[..., None] if vector else B if left else np.swapaxes(B, -1, -2)
        X = lapack("linalg.solve", "a matrix A is singular", np.linalg.solve, A if left else np.swapaxes(A, -1, -2), right)
        return X[..., 0] if vector else X if left else np.swapaxes(X, -1, -2)

    def backward(upstream, A, out, left, ctx):
        a_shape, b_shape = ctx.input_shapes
        vector = _is_vector(a_shape, b_shape)
        G, X = (upstream.unsqueeze(-1), out.unsqueeze(-1)) if vector else (upstream, out)
        G = tg.linalg.solve(A.mT, G, left=left)
        of_A = fitted(-(G @ X.mT if left else X.mT @ G), a_shape) if ctx.needs[0] else None
        return of_A, fitted(G.squeeze(-1) if vector else G, b_shape)


def _cofactors(A: np.ndarray) -> np.ndarray:
    """The cofactor matrices, through the singular values: right for every rank."""
    u, s, vh = np.linalg.svd(A)
    n = s.shape[-1]
    others = np.prod(np.where(np.eye(n, dtype=bool), 1, s[..., None, :]), axis=-1)
    sign = np.linalg.det(u) * np.linalg.det(vh)
    return (sign[..., None, None] * (u * others[..., None, :] @ vh)).astype(A.dtype)


@op("linalg.cofactor", domain=_square_domain, formula="det(A) A^-T, and its limit where A is singular", internal=True)
class cofactor(Op):
    """The matrices of cofactors, which are the gradient of the determinant, for (..., n, n) of any rank.

    Its own derivative needs invertible matrices: LinAlgError otherwise.
    """

    def prepare(A):
        require_matrix("linalg.cofactor", A, square=True)
        return (A,)

    def reference(A: Array) -> np.ndarray:
        return lapack("linalg.cofactor", "the singular values do not converge", _cofactors, A)

    def grad_A(upstream, A, out):
        inverse = tg.linalg.inv(A).mT
        inner = (upstream * out).sum((-2, -1), True)
        return inner * inverse - out @ upstream.mT @ inverse


@op("linalg.det", domain=_square_domain, formula="determinant of A", source="Giles 2008, 2.2.4", aliases=("det",),
    keywords={"input": "A"})  # fmt: skip
class det(Op):
    """The determinants of square matrices (..., n, n). The gradient, the cofactors, is right for singular matrices too."""

    def prepare(A):
        require_matrix("linalg.det", A, square=True)
        return (A,)

    def reference(A: Array) -> np.ndarray:
        return np.asarray(lapack("linalg.det", "", np.linalg.det, A))

    def grad_A(upstream, A):
        return upstream.unsqueeze(-1).unsqueeze(-1) * tg.linalg.cofactor(A)


@op("linalg.slogdet", domain=_square_domain, formula="sign of det(A), log |det(A)|", source="Giles 2008, 2.2.4",
    aliases=("slogdet",), keywords={"input": "A"})  # fmt: skip
class slogdet(Op):
    """(sign, logabsdet) of the determinants of (..., n, n).

    Of a singular matrix: (0, -inf), and its gradient is a LinAlgError.
    """

    outputs = ("sign", "logabsdet")

    def prepare(A):
        require_matrix("linalg.slogdet", A, square=True)
        return (A,)

    def reference(A: Array):
        sign, logarithm = lapack("linalg.slogdet", "", lambda a: tuple(np.linalg.slogdet(a)), A)
        return np.asarray(sign), np.asarray(logarithm)

    def grad_A(upstreams, A):
        if upstreams[1] is None:
            return tg.zeros_like(A)
        return upstreams[1].unsqueeze(-1).unsqueeze(-1) * tg.linalg.inv(A).mT


def _positive_determinant_domain(draw):
    (A,) = _square_domain(draw).args
    A[..., 0] *= np.sign(np.linalg.det(A))[..., None]
    return call(A)


@op("logdet", domain=_positive_determinant_domain, formula="log det(input)")
class logdet(Composite):
    """The logarithms of the determinants of square matrices (..., n, n): -inf where one is 0, NaN where it is negative."""

    def prepare(input):
        require_matrix("logdet", input, square=True)
        return (input,)

    def reference(input: Array) -> np.ndarray:
        return np.asarray(np.log(np.linalg.det(input)))

    def compose(input):
        sign, logarithm = tg.linalg.slogdet(input)
        return tg.where(sign < 0, math.nan, logarithm)


@op("linalg.cholesky", domain=lambda draw: call(_symmetric(draw, 0.8), upper=draw.boolean()), formula="L with L L^T = A",
    source="I. Murray, Differentiation of the Cholesky decomposition, arXiv:1602.07527, eq. 10",
    laws=(Homogeneous("A", degree=0.5),))  # fmt: skip
class cholesky(Op):
    """The lower triangular L (upper=True: L^T) with L L^T = A, for symmetric positive definite A (..., n, n).

    The lower triangle of A is read (upper=True: the upper one), its mean with the other where both agree up to rounding; the gradient
    is symmetric either way, as in PyTorch. LinAlgError if a matrix is not positive definite.
    """

    def prepare(A, *, upper=False):
        require_matrix("linalg.cholesky", A, square=True)
        return A, bool(upper)

    def reference(A: Array, *, upper: bool = False) -> np.ndarray:
        problem = "a matrix is not positive definite"
        L = lapack("linalg.cholesky", problem, np.linalg.cholesky, symmetric_part(A, upper))
        return np.ascontiguousarray(np.swapaxes(L, -1, -2)) if upper else L

    def grad_A(upstream, out, upper):
        L, G = (out.mT, upstream.mT) if upper else (out, upstream)
        lower = (L.mT @ G).tril()
        inner = (lower + lower.tril(-1).mT) * 0.5
        return tg.linalg.solve(L, tg.linalg.solve(L.mT, inner), left=False)


def _svd_domain(draw):
    n, m = draw.integer(1, 3), draw.integer(1, 3)
    return call(with_singular_values(draw, draw.shape((0, 1), high=2), n, m), full_matrices=n == m and draw.boolean())


def _no_driver(name: str, driver) -> None:
    if driver is not None:
        raise ValueError(f"{name}: driver chooses a CUDA routine and must be None on the CPU, got {driver!r}")


def differences(values):
    """out[..., i, j] = values[..., j] - values[..., i], with 1 on the diagonal, where it is not used."""
    n = values.shape[-1]
    return values.unsqueeze(-2) - values.unsqueeze(-1) + tg.eye(n, dtype=values.dtype)


@op("linalg.svd", domain=_svd_domain, formula="U, S, Vh with A = U diag(S) Vh",
    source="J. Townsend, Differentiating the Singular Value Decomposition (2016)")  # fmt: skip
class svd(Op):
    """(U, S, Vh) with A = U diag(S) Vh for A (..., n, m): orthonormal columns and rows, S >= 0 in descending order.

    With k = min(n, m): U is (..., n, k) and Vh (..., k, m), or square with full_matrices. The gradient of U and Vh needs
    distinct singular values (and k nonzero ones for a matrix that is not square); that of S does not. RuntimeError for a
    gradient that reaches the columns and rows beyond the k-th, which the matrix does not determine.
    """

    outputs = ("U", "S", "Vh")

    def prepare(A, full_matrices=True, *, driver=None):
        require_matrix("linalg.svd", A)
        _no_driver("linalg.svd", driver)
        return A, bool(full_matrices), None

    def reference(A: Array, full_matrices: bool = True, *, driver=None):
        factors = lapack(
            "linalg.svd", "the singular values do not converge", lambda a, f: tuple(np.linalg.svd(a, f)), A, f=full_matrices
        )
        return tuple(np.asarray(f) for f in factors)

    def grad_A(upstreams, U, S, Vh, full_matrices, ctx):
        of_u, of_s, of_vh = upstreams
        n, m = ctx.input_shapes[0][-2:]
        k = min(n, m)
        if full_matrices and n != m:
            if (of_u is not None and n > m) or (of_vh is not None and n < m):
                raise RuntimeError(
                    f"linalg.svd: with full_matrices=True the {'columns of U' if n > m else 'rows of Vh'} beyond the first "
                    f"{k} of a matrix of shape {ctx.input_shapes[0]} are arbitrary and have no derivative; use "
                    f"full_matrices=False"
                )
            U, Vh = U.narrow(-1, 0, k), Vh.narrow(-2, 0, k)
        if of_u is None and of_vh is None:
            return U * of_s.unsqueeze(-2) @ Vh
        inner = tg.zeros((*S.shape, k), dtype=S.dtype) if of_s is None else of_s.diag_embed()
        squares = differences(S * S)
        rows, columns = S.unsqueeze(-2), S.unsqueeze(-1)
        if of_u is not None:
            turn = U.mT @ of_u
            inner = inner + (turn - turn.mT) / squares * rows
        if of_vh is not None:
            turn = Vh @ of_vh.mT
            inner = inner + columns * ((turn - turn.mT) / squares)
        grad = U @ inner @ Vh
        if of_u is not None and n > k:
            scaled = of_u / rows
            grad = grad + (scaled - U @ (U.mT @ scaled)) @ Vh
        if of_vh is not None and m > k:
            scaled = of_vh / columns
            grad = grad + U @ (scaled - (scaled @ Vh.mT) @ Vh)
        return grad


def _reduced_svd_domain(draw):
    n, m = draw.integer(1, 3), draw.integer(1, 3)
    return call(with_singular_values(draw, draw.shape((0, 1), high=2), n, m), some=n != m or draw.boolean())


@op("svd", domain=_reduced_svd_domain, formula="U, S, V with input = U diag(S) V^T")
class reduced_svd(Composite):
    """(U, S, V) with input = U diag(S) V^T, the older form of `linalg.svd`, which returns V^T and which explains the gradients.

    some: only the first min(n, m) columns of U and V. compute_uv=False: zeros in their place.
    """

    outputs = ("U", "S", "V")

    def prepare(input, some=True, compute_uv=True):
        require_matrix("svd", input)
        return input, bool(some), bool(compute_uv)

    def reference(input: Array, some: bool = True, compute_uv: bool = True):
        U, S, Vh = np.linalg.svd(input, full_matrices=not (some and compute_uv))
        V = np.swapaxes(Vh, -1, -2)
        return (U, S, V) if compute_uv else (np.zeros_like(U), S, np.zeros_like(V))

    def compose(input, some=True, compute_uv=True):
        if compute_uv:
            U, S, Vh = tg.linalg.svd(input, full_matrices=not some)
            return reduced_svd.result(U, S, Vh.mT)
        *batch, n, m = input.shape
        U, V = (tg.zeros(*batch, size, size, dtype=input.dtype) for size in (n, m))
        return reduced_svd.result(U, tg.linalg.svdvals(input), V)


def _any_matrix_domain(draw):
    return call(with_singular_values(draw, draw.shape((0, 1), high=2), draw.integer(1, 3), draw.integer(1, 3)))


@op("linalg.svdvals", domain=_any_matrix_domain, formula="singular values of A, descending")
class svdvals(Composite):
    """The singular values of (..., n, m), in descending order: (..., min(n, m))."""

    def prepare(A, *, driver=None):
        require_matrix("linalg.svdvals", A)
        _no_driver("linalg.svdvals", driver)
        return A, None

    def reference(A: Array, *, driver=None) -> np.ndarray:
        return np.linalg.svd(A, compute_uv=False)

    def compose(A, *, driver=None):
        return tg.linalg.svd(A, full_matrices=False)[1]


def _check_triangle(name: str, UPLO) -> str:
    if str(UPLO).upper() not in ("L", "U"):
        raise ValueError(f"{name}: UPLO must be 'L' or 'U', got {UPLO!r}")
    return str(UPLO).upper()


@op("linalg.eigh", domain=lambda draw: call(_symmetric(draw, -0.9), draw.choice(["L", "U"])), source="Giles 2008, 3.1",
    formula="eigenvalues L (ascending) and eigenvectors Q with A = Q diag(L) Q^T")  # fmt: skip
class eigh(Op):
    """(eigenvalues, eigenvectors) of symmetric A (..., n, n): ascending values (..., n), and orthonormal columns (..., n, n).

    UPLO: the triangle of A that is read, "L" or "U"; the mean of both where they agree up to rounding. The gradient is symmetric either
    way, as in PyTorch; that of the eigenvectors needs distinct eigenvalues.
    """

    outputs = ("eigenvalues", "eigenvectors")

    def prepare(A, UPLO="L"):
        require_matrix("linalg.eigh", A, square=True)
        return A, _check_triangle("linalg.eigh", UPLO)

    def reference(A: Array, UPLO: str = "L"):
        A = symmetric_part(A, UPLO == "U")
        return lapack("linalg.eigh", "the eigenvalues do not converge", lambda a: tuple(np.linalg.eigh(a)), A)

    def grad_A(upstreams, eigenvalues, eigenvectors):
        of_values, of_vectors = upstreams
        Q = eigenvectors
        if of_vectors is None:
            return Q * of_values.unsqueeze(-2) @ Q.mT
        turn = Q.mT @ of_vectors
        inner = (turn - turn.mT) * 0.5 / differences(eigenvalues)
        if of_values is not None:
            inner = inner + of_values.diag_embed()
        return Q @ inner @ Q.mT


@op(
    "linalg.eigvalsh",
    domain=lambda draw: call(_symmetric(draw, -0.9), draw.choice(["L", "U"])),
    formula="eigenvalues of A, ascending",
)
class eigvalsh(Composite):
    """The eigenvalues of symmetric A (..., n, n), ascending; see `linalg.eigh`."""

    def reference(A: Array, UPLO: str = "L") -> np.ndarray:
        return np.linalg.eigvalsh(A, UPLO)

    def prepare(A, UPLO="L"):
        require_matrix("linalg.eigvalsh", A, square=True)
        return A, _check_triangle("linalg.eigvalsh", UPLO)

    def compose(A, UPLO="L"):
        return tg.linalg.eigh(A, UPLO)[0]
