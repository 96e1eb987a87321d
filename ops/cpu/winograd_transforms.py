"""The transforms of Winograd convolutions F(m x m, 3 x 3), made from their points, and written as vector code.

An output tile of m along an axis, and a kernel of 3, make a polynomial product of degree m + 1, known from its values at m + 2 points
(A. L. Toom, S. A. Cook; S. Winograd, "Arithmetic Complexity of Computations", 1980; for convolutions A. Lavin and S. Gray, 2015,
arXiv:1509.09308): finite ones p, and infinity. With q(x) = the product of (x - p),

    B^T, row p: the coefficients of q(x) / (x - p), row infinity: those of q
    G,   row p: (1, p, p^2) / (q / (x - p))(p),     row infinity: (0, 0, 1)
    A,   row p: (1, p, ..., p^(m-1)),               row infinity: (0, ..., 0, 1)

Points other than 0 come in pairs p, -p: their rows share their even and their odd terms, which halves the work.

m = 2: the points 0, 1, -1. Everything is a sum, a difference or a half.
m = 4: the points 0, 5/8, -5/8, 3/2, -3/2 in place of Lavin and Gray's 0, 1, -1, 2, -2: their powers stay near one another, so that less is
lost when they cancel. In float32 errors are half of those (64 channels, random numbers: root mean square 0.8e-6 against 1.7e-6 of that of
the output, largest 1.8e-6 against 6e-6 of the largest output; 1/2, 2 lie between). B^T and A hold no rounded constant.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from llvmlite import ir
from numba.core import cgutils

TAPS = 3  # of a kernel, along one axis
_POINTS = {2: (0, 1, -1), 4: (0, Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2))}

Matrix = tuple[tuple[Fraction, ...], ...]


def _product(roots) -> list[Fraction]:
    """The coefficients of the product of (x - r), from x^0 on."""
    coefficients = [Fraction(1)]
    for r in roots:
        coefficients = [a - r * b for a, b in zip([0, *coefficients], [*coefficients, 0], strict=True)]
    return coefficients


@lru_cache
def matrices(tile: int) -> tuple[Matrix, Matrix, Matrix]:
    """B^T (points, points), G (points, 3) and A (points, tile) of the output tile, which is 2 or 4; the last point is infinity."""
    points = [Fraction(p) for p in _POINTS[tile]]
    inputs, weights, outputs = [], [], []
    for p in points:
        others = _product([q for q in points if q != p])
        scale = sum(c * p**i for i, c in enumerate(others))
        inputs.append((*others, Fraction(0)))
        weights.append(tuple(p**i / scale for i in range(TAPS)))
        outputs.append(tuple(p**i for i in range(tile)))
    inputs.append(tuple(_product(points)))
    weights.append((*[Fraction(0)] * (TAPS - 1), Fraction(1)))
    outputs.append((*[Fraction(0)] * (tile - 1), Fraction(1)))
    return tuple(inputs), tuple(weights), tuple(outputs)


class Emitter:
    """Linear combinations of vectors. writer: a `tiles.Writer`."""

    def __init__(self, writer) -> None:
        self.writer, self.builder = writer, writer.builder
        name = f"llvm.fmuladd.v{writer.lanes}f{8 * writer.bytes}"  # fused where the machine can
        kind = ir.FunctionType(writer.vector, [writer.vector] * 3)
        self._multiply_add = cgutils.get_or_insert_function(writer.builder.module, kind, name)

    def multiply_add(self, a, b, c):
        """a * b + c."""
        return self.builder.call(self._multiply_add, [a, b, c])

    def add(self, coefficient: Fraction, value, to):
        """to + coefficient * value."""
        if abs(coefficient) == 1:
            return self.builder.fadd(to, value) if coefficient == 1 else self.builder.fsub(to, value)
        factor = ir.Constant(self.writer.vector, [float(coefficient)] * self.writer.lanes)
        return self.multiply_add(factor, value, to)

    def combine(self, coefficients, values):
        """The sum of coefficient * value, of which one at least is not 0."""
        terms = [(c, v) for c, v in zip(coefficients, values, strict=True) if c]
        terms.sort(key=lambda term: term[0] != 1)  # a term that needs no multiplication comes first
        coefficient, total = terms[0]
        if coefficient == -1:
            total = self.builder.fneg(total)
        elif coefficient != 1:
            total = self.builder.fmul(ir.Constant(self.writer.vector, [float(coefficient)] * self.writer.lanes), total)
        for coefficient, value in terms[1:]:
            total = self.add(coefficient, value, total)
        return total

    def spread(self, matrix: Matrix, values) -> list:
        """matrix @ values, for a matrix with rows 0, p, -p, ..., infinity."""
        results = [self.combine(matrix[0], values)]
        for row in matrix[1:-1:2]:
            odd = row[1::2]
            scale = [c for c in odd if c][-1]
            even_part = self.combine(row[::2], values[::2])
            odd_part = self.combine([c / scale for c in odd], values[1::2])
            results += [self.add(scale, odd_part, even_part), self.add(-scale, odd_part, even_part)]
        return [*results, self.combine(matrix[-1], values)]

    def gather(self, matrix: Matrix, values) -> list:
        """The transpose of `matrix` @ values, the matrix as for `spread`."""
        pairs = list(zip(values[1:-1:2], values[2:-1:2], strict=True))
        parts = [[operation(a, b) for a, b in pairs] for operation in (self.builder.fadd, self.builder.fsub)]
        rows = [matrix[0], *matrix[1:-1:2], matrix[-1]]
        return [
            self.combine([row[i] for row in rows], [values[0], *parts[i % 2], values[-1]]) for i in range(len(matrix[0]))
        ]  # fmt: skip
