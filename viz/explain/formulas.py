"""One-line mathematics, such as operators declare, as trees: read once, shown as MathML or evaluated.

    parse("1 / (1 + e^-input)")   ->   ("/", ("number", "1"), ("+", ("number", "1"), ("^", ("name", "e"), ("-", ("name", "input")))))

Grammar: + - * / @, ** and ^ for powers, ^T for transposes, |x| and ||x||, comparisons, f(x, y), x[i, j], sum_{c, k} x, sum_k x,
`sum of x over dim`, `a where b, c where d, else e`, and equations. `FormulaError` for anything else: prose stays prose.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Tree = tuple[Any, ...]
MathTree = Any  # ["mfrac", {attributes}?, child, ...]: nested lists of MathML elements, as JSON holds them


class FormulaError(ValueError):
    """Text that is not one formula of the grammar."""


_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:e-?\d+)?)|([^\W\d]\w*)|(\*\*|<=|>=|==|!=|\|\||\.\.\.|[-+*/@^()\[\]{}|<>=,:]))")
_COMPARISONS = {"<", ">", "<=", ">=", "==", "!=", "="}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt, "exp": math.exp, "ln": math.log, "log": math.log, "sin": math.sin, "cos": math.cos, "tan": math.tan,
    "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan, "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
    "arsinh": math.asinh, "arcosh": math.acosh, "artanh": math.atanh, "erf": math.erf, "erfc": math.erfc, "floor": math.floor,
    "max": max, "min": min, "sign": lambda v: (v > 0) - (v < 0), "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "softplus": lambda v: math.log1p(math.exp(v)), "Phi": lambda v: math.erfc(-v / math.sqrt(2)) / 2,
    "phi": lambda v: math.exp(-v * v / 2) / math.sqrt(2 * math.pi), "atan2": math.atan2, "trunc": math.trunc,
}  # fmt: skip
_CONSTANTS = {"e": math.e, "pi": math.pi, "inf": math.inf}


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise FormulaError(f"unexpected {text[position:].strip()[0]!r} in {text!r}")
            kind = ("number", "name", "sign")[match.lastindex - 1]  # type: ignore[operator]
            self.tokens.append((kind, match[match.lastindex or 0]))
            position = match.end()
        self.tokens.append(("end", ""))
        self.position = 0
        self.depth = 0
        self.in_bars = 0

    @property
    def upcoming(self) -> tuple[str, str]:
        return self.tokens[self.position]

    def take(self) -> tuple[str, str]:
        token = self.tokens[self.position]
        self.position += 1
        return token

    def accepts(self, *texts: str) -> bool:
        if self.upcoming[1] in texts and self.upcoming[0] != "end":
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accepts(text):
            raise FormulaError(f"expected {text!r} before {self.upcoming[1]!r} in {self.text!r}")

    def whole(self) -> Tree:
        left = self.cases()
        if self.upcoming[0] != "end":
            raise FormulaError(f"unexpected {self.upcoming[1]!r} in {self.text!r}")
        return left

    def cases(self) -> Tree:
        self.depth += 1
        if self.depth > 40:
            raise FormulaError(f"too deeply nested: {self.text[:60]!r}")
        first = self.comparison()
        if not self.accepts("where"):
            self.depth -= 1
            return first
        branches = [(first, self.comparison())]
        while self.accepts(","):
            if self.accepts("else"):
                self.depth -= 1
                return ("cases", tuple(branches), self.comparison())
            value = self.comparison()
            self.expect("where")
            branches.append((value, self.comparison()))
        raise FormulaError(f"`where` without `else` in {self.text!r}")

    def comparison(self) -> Tree:
        left = self.addition()
        while self.upcoming[1] in _COMPARISONS:
            sign = self.take()[1]
            left = (sign, left, self.addition())
        return left

    def addition(self) -> Tree:
        left = self.product()
        while self.upcoming[1] in ("+", "-"):
            sign = self.take()[1]
            left = (sign, left, self.product())
        return left

    def product(self) -> Tree:
        left = self.signed()
        while self.upcoming[1] in ("*", "/", "@"):
            sign = self.take()[1]
            left = (sign, left, self.signed())
        return left

    def signed(self) -> Tree:
        if self.accepts("-"):
            return ("negative", self.signed())
        return self.power()

    def power(self) -> Tree:
        base = self.postfix()
        if self.accepts("^", "**"):
            if self.upcoming == ("name", "T"):
                self.take()
                return ("transposed", base)
            return ("^", base, self.signed())
        return base

    def postfix(self) -> Tree:
        value = self.atom()
        while self.accepts("["):
            value = ("index", value, self.items_until("]"))
        return value

    def items_until(self, end: str) -> tuple[Tree, ...]:
        items: list[Tree] = []
        while not self.accepts(end):
            if items:
                self.expect(",")
            items.append(("name", "...") if self.accepts("...") else self.cases())
        return tuple(items)

    def atom(self) -> Tree:
        kind, text = self.take()
        if kind == "number":
            return ("number", text)
        if text == "(":
            inner = self.cases()
            self.expect(")")
            return inner
        if text == "|" and not self.in_bars:
            self.in_bars += 1
            inner = self.addition()
            self.in_bars -= 1
            self.expect("|")
            return ("absolute", inner)
        if kind != "name" or text in ("where", "else", "over", "of", "and", "or"):
            raise FormulaError(f"unexpected {text!r} in {self.text!r}")
        if text == "sum" and self.accepts("of"):
            term = self.product()
            self.expect("over")
            return ("total", term, (("name", self.take()[1]),))
        if text == "sum_" and self.accepts("{"):
            return ("total", None, self.items_until("}"), self.product())
        if text.startswith("sum_") and len(text) > 4:
            return ("total", None, (("name", text[4:]),), self.product())
        if self.upcoming == ("sign", "("):
            self.take()
            return ("call", text, self.items_until(")"))
        if self.upcoming[0] == "name" and self.upcoming[1] not in ("where", "else", "over"):
            raise FormulaError(f"two words, {text!r} and {self.upcoming[1]!r}, in {self.text!r}")
        return ("name", text)


def parse(text: str) -> Tree:
    """`text` as a tree. FormulaError where it is not a formula."""
    return _Reader(text).whole()


def simplify(tree: Any, values: Mapping[str, Any]) -> Any:
    """The tree with names of `values` replaced: by a tree, a number, or None for something absent (max(x, None) is x), and with
    what that leaves of no effect taken out: 1 * x, x + 0, x ** 1."""
    if not isinstance(tree, tuple) or not tree:
        return tree
    kind = tree[0]
    if not isinstance(kind, str):
        return tuple(simplify(part, values) for part in tree)
    if kind == "name" and tree[1] in values:
        value = values[tree[1]]
        return value if value is None or isinstance(value, tuple) else numeral(value)
    if kind in ("name", "number"):
        return tree
    if kind == "call":
        arguments = tuple(a for a in (simplify(a, values) for a in tree[2]) if a is not None)
        return arguments[0] if tree[1] in ("min", "max") and len(arguments) == 1 else (kind, tree[1], arguments)
    parts = tuple(simplify(p, values) if isinstance(p, tuple) else p for p in tree[1:])
    if kind == "index" and parts[0] is None:
        return None
    if kind in "+-*/^" and len(parts) == 2:
        return _without_effect(kind, *parts)
    return (kind, *parts)


def numeral(value: Any) -> Tree:
    """A number as a tree."""
    negative = value < 0
    text = repr(abs(value)).removesuffix(".0")
    return ("negative", ("number", text)) if negative else ("number", text)


def _is_numeral(tree: Any) -> bool:
    return tree[0] == "number" or (tree[0] == "negative" and tree[1][0] == "number")


def _without_effect(kind: str, left: Any, right: Any) -> Any:
    one, zero = ("number", "1"), ("number", "0")
    if left is None or right is None:
        return right if left is None else left
    if kind == "*" and zero in (left, right):
        return zero
    if kind == "*" and left == one:
        return right
    if kind in "*/^" and right == one:
        return left
    if kind in "+-" and right == zero:
        return left
    if kind in "+-" and _is_numeral(left) and _is_numeral(right):
        return numeral(evaluate((kind, left, right), {}))
    if kind == "+" and left == zero:
        return right
    return (kind, left, right)


def evaluate(tree: Any, values: Mapping[str, float]) -> float:
    """The number that `tree` is for these values of its names. KeyError for a name that has none."""
    kind = tree[0]
    if kind == "number":
        return float(tree[1])
    if kind == "name":
        return float(values[tree[1]]) if tree[1] in values else _CONSTANTS[tree[1]]
    if kind == "cases":
        chosen = next((v for v, condition in tree[1] if evaluate(condition, values)), tree[2])
        return evaluate(chosen, values)
    if kind == "call":
        return float(_FUNCTIONS[tree[1]](*(evaluate(a, values) for a in tree[2])))
    parts = [evaluate(p, values) for p in tree[1:]]
    return float(_OPERATIONS[kind](*parts))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b, "^": lambda a, b: a**b,
    "negative": lambda a: -a, "absolute": abs, "<": lambda a, b: a < b, ">": lambda a, b: a > b, "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


__all__ = ["FormulaError", "MathTree", "Tree", "evaluate", "numeral", "parse", "simplify"]
