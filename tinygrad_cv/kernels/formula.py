"""Scalar expressions of operators turned into the text of kernel loops. Imports no Numba.

An expression is Python over parameter names and the functions of the kernel library (`math32`, `math64`): + - * /, powers by
a constant, comparisons, `and`, `or`, `not`, `x if c else y` (both computed), numbers, `pi`, `inf`, `nan`. Numbers and attributes
take the working dtype, so that float32 stays float32.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Cost of a function for one float32 element, in nanoseconds, on one core (measured; an order of magnitude is enough).
COSTS = {
    "acos": 0.8, "acosh": 1.5, "asin": 0.8, "asinh": 1.5, "atan": 0.9, "atan2": 1.5, "atanh": 1.4, "ceil": 0.04, "copysign": 0.04,
    "cos": 1.5, "cosh": 0.9, "erf": 0.65, "erfc": 1.6, "exp": 0.2, "exp2": 0.2, "expm1": 0.35, "fabs": 0.03, "floor": 0.04,
    "fma": 0.04, "fmod": 8.0, "hypot": 0.6, "isfinite": 0.04, "isinf": 0.04, "isnan": 0.04, "log": 0.45, "log10": 0.45, "log1p": 0.6,
    "log2": 0.45, "maximum": 0.05, "minimum": 0.05, "normal_cdf": 0.48, "normal_pdf": 0.22,
    "pow": 2.0, "rint": 0.04, "rsqrt": 0.3, "sigmoid": 0.3,
    "sign": 0.05, "sin": 1.5, "sinh": 1.3, "sqrt": 0.15, "tan": 1.6, "tanh": 0.5, "trunc": 0.04, "where": 0.04,
}  # fmt: skip
# What NumPy takes for the same (AVX-512, one core, arrays in cache); three times that elsewhere, where it calls the C library.
# For functions that NumPy lacks, what the references' formulas take.
NUMPY_COSTS = {
    "acos": 3.8, "acosh": 3.3, "asin": 3.7, "asinh": 0.7, "atan": 0.4, "atan2": 5.0, "atanh": 3.3, "ceil": 0.12, "copysign": 0.5,
    "cos": 0.53, "cosh": 0.32, "erf": 5.0, "erfc": 25.0, "exp": 0.45, "exp2": 0.21, "expm1": 0.35, "fabs": 0.12, "floor": 0.12,
    "fma": 0.3, "fmod": 9.0, "hypot": 2.0, "isfinite": 0.1, "isinf": 0.1, "isnan": 0.1, "log": 0.37, "log10": 0.23, "log1p": 0.56,
    "log2": 0.25, "maximum": 0.38, "minimum": 0.38, "normal_cdf": 25.0, "normal_pdf": 1.0,
    "pow": 1.0, "rint": 0.12, "rsqrt": 0.5, "sigmoid": 2.0,
    "sign": 0.3, "sin": 0.53, "sinh": 0.5, "sqrt": 0.36, "tan": 0.38, "tanh": 0.36, "trunc": 0.12, "where": 0.5,
}  # fmt: skip
_ALIASES = {"abs": "fabs", "max": "maximum", "min": "minimum", "round": "rint", "square": "square"}
_ARITY = {"atan2": 2, "copysign": 2, "fma": 3, "fmod": 2, "hypot": 2, "maximum": 2, "minimum": 2, "pow": 2, "where": 3}
_TRUTH = {"isnan", "isinf", "isfinite"}
_CONSTANTS = {"pi": math.pi, "inf": math.inf, "nan": math.nan, "e": math.e}
_CHEAP = 0.03


class Expression(NamedTuple):
    """A translated expression.

    text: Python for Numba. functions, names: the functions and parameters in it. truth: it gives a bool. cost: ns an element on
    one core; numpy_cost: the same for NumPy, in `steps` passes over memory. calls: of functions that are not one instruction.
    """

    text: str
    functions: frozenset[str]
    names: tuple[str, ...]
    truth: bool
    cost: float
    numpy_cost: float
    steps: int
    calls: int


def literal(value: float) -> str:
    """A number in the working dtype."""
    if math.isnan(value):
        return "F(np.nan)"
    if math.isinf(value):
        return "F(np.inf)" if value > 0 else "F(-np.inf)"
    return f"F({value!r})"


class _Translator:
    """Walks an expression; every method returns its text, and truth values are kept apart from numbers."""

    def __init__(self, names: Mapping[str, str], truths: frozenset[str], numbers: frozenset[str]) -> None:
        self.names, self.truths, self.numbers = names, truths, numbers
        self.functions: dict[str, None] = {}
        self.used: dict[str, None] = {}
        self.cost = 0.0
        self.numpy_cost = 0.0
        self.steps = 0
        self.calls = 0

    def number(self, node: ast.expr) -> str:
        text, truth = self.any(node)
        return f"F({text})" if truth else text

    def truth(self, node: ast.expr) -> str:
        text, truth = self.any(node)
        return text if truth else f"({text} != F(0.0))"

    def any(self, node: ast.expr) -> tuple[str, bool]:
        method = getattr(self, f"on_{type(node).__name__}", None)
        if method is None:
            raise ValueError(f"{ast.unparse(node)!r} is not part of scalar expressions")
        text, truth = method(node)
        return text, truth

    def on_Constant(self, node: ast.Constant) -> tuple[str, bool]:
        if isinstance(node.value, bool):
            return repr(node.value), True
        if not isinstance(node.value, (int, float)):
            raise ValueError(f"{node.value!r} is not a number")
        return literal(float(node.value)), False

    def on_Name(self, node: ast.Name) -> tuple[str, bool]:
        if node.id in self.names:
            self.used[node.id] = None
            return self.names[node.id], node.id in self.truths
        if node.id in _CONSTANTS:
            return literal(_CONSTANTS[node.id]), False
        raise ValueError(f"{node.id!r} is neither a parameter nor a constant (pi, e, inf, nan)")

    def on_UnaryOp(self, node: ast.UnaryOp) -> tuple[str, bool]:
        if not isinstance(node.operand, ast.Constant):
            self.spend(_CHEAP, 0.13)
        if isinstance(node.op, ast.Not):
            return f"(not {self.truth(node.operand)})", True
        if isinstance(node.op, ast.USub):
            return f"(-{self.number(node.operand)})", False
        if isinstance(node.op, ast.UAdd):
            return self.number(node.operand), False
        raise ValueError(f"{ast.unparse(node)!r}: ~ is not part of scalar expressions")

    def on_BinOp(self, node: ast.BinOp) -> tuple[str, bool]:
        if isinstance(node.op, ast.Pow):
            return self.power(node), False
        symbol = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}.get(type(node.op))
        if symbol is None:
            raise ValueError(f"{ast.unparse(node)!r}: only + - * / ** are part of scalar expressions")
        if symbol == "*" and isinstance(node.left, ast.Name) and node.left.id in self.numbers:
            self.spend(_CHEAP, 0.0, 0)  # `alpha * other`, where alpha is usually 1 and NumPy skips it
        elif symbol == "/":
            self.spend(0.15, 0.36)
        else:
            self.spend(_CHEAP, 0.13)
        return f"({self.number(node.left)} {symbol} {self.number(node.right)})", False

    def power(self, node: ast.BinOp) -> str:
        exponent = node.right
        negative = isinstance(exponent, ast.UnaryOp) and isinstance(exponent.op, ast.USub)
        value = exponent.operand if negative else exponent  # type: ignore[attr-defined]
        base = self.number(node.left)
        times = value.value if isinstance(value, ast.Constant) else None
        if times in (1, 2, 3, 4) and isinstance(node.left, ast.Name):
            count = int(times)  # type: ignore[arg-type]
            self.spend(_CHEAP * count, 0.13 * count)
            product = "(" + " * ".join([base] * count) + ")"
            return f"(F(1.0) / {product})" if negative else product
        self.functions["pow"] = None
        self.spend(COSTS["pow"], NUMPY_COSTS["pow"], calls=1)
        return f"pow({base}, {self.number(exponent)})"

    def on_Compare(self, node: ast.Compare) -> tuple[str, bool]:
        symbols = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
        operands = [node.left, *node.comparators]
        parts = []
        for left, kind, right in zip(operands, node.ops, operands[1:], strict=False):
            if type(kind) not in symbols:
                raise ValueError(f"{ast.unparse(node)!r}: only < <= > >= == != are part of scalar expressions")
            self.spend(_CHEAP, 0.05, 0)
            (a, a_truth), (b, b_truth) = self.any(left), self.any(right)
            if a_truth != b_truth:
                a, b = (f"F({a})", b) if a_truth else (a, f"F({b})")
            parts.append(f"({a} {symbols[type(kind)]} {b})")
        return (parts[0] if len(parts) == 1 else "(" + " & ".join(parts) + ")"), True

    def on_BoolOp(self, node: ast.BoolOp) -> tuple[str, bool]:
        self.spend(_CHEAP, 0.1)
        joined = " & " if isinstance(node.op, ast.And) else " | "
        return "(" + joined.join(self.truth(v) for v in node.values) + ")", True

    def on_IfExp(self, node: ast.IfExp) -> tuple[str, bool]:
        self.spend(COSTS["where"], 0.35)
        condition = self.truth(node.test)
        (a, a_truth), (b, b_truth) = self.any(node.body), self.any(node.orelse)
        if a_truth and b_truth:
            return f"(({condition} & {a}) | ((not {condition}) & {b}))", True
        self.functions["where"] = None
        return f"where({condition}, {a}, {b})", False

    def on_Call(self, node: ast.Call) -> tuple[str, bool]:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise ValueError(f"{ast.unparse(node)!r}: only plain calls of kernel functions are part of scalar expressions")
        name = _ALIASES.get(node.func.id, node.func.id)
        if name == "square" and len(node.args) == 1:
            return self.any(ast.BinOp(node.args[0], ast.Mult(), node.args[0]))
        if name not in COSTS:
            raise ValueError(f"{node.func.id!r} is not a function of the kernel library ({', '.join(sorted(COSTS))})")
        if len(node.args) != _ARITY.get(name, 1) and not (name in ("maximum", "minimum") and len(node.args) > 2):
            raise ValueError(f"{ast.unparse(node)!r}: {name} takes {_ARITY.get(name, 1)} arguments")
        self.functions[name] = None
        self.spend(COSTS[name], NUMPY_COSTS[name], calls=int(COSTS[name] > 0.2))
        if name == "where":
            return f"where({self.truth(node.args[0])}, {self.number(node.args[1])}, {self.number(node.args[2])})", False
        arguments = [self.number(a) for a in node.args]
        while len(arguments) > 2 and name in ("maximum", "minimum"):
            arguments[:2] = [f"{name}({arguments[0]}, {arguments[1]})"]
        return f"{name}({', '.join(arguments)})", name in _TRUTH

    def spend(self, cost: float, numpy_cost: float, steps: int = 1, calls: int = 0) -> None:
        self.cost += cost
        self.numpy_cost += numpy_cost
        self.steps += steps
        self.calls += calls


def translate(expression: str, names: Mapping[str, str], truths: Sequence[str] = (), numbers: Sequence[str] = ()) -> Expression:
    """The expression as text for a kernel.

    names: what each parameter is called there. truths: parameters that are bool; numbers: those that are no arrays. Raises
    ValueError, with the part at fault, for anything outside the language.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{expression!r} is no Python expression: {error.msg}") from error
    translator = _Translator(names, frozenset(truths), frozenset(numbers))
    text, truth = translator.any(tree)
    return Expression(
        text, frozenset(translator.functions), tuple(translator.used), truth, translator.cost, translator.numpy_cost,
        translator.steps, translator.calls,
    )  # fmt: skip
