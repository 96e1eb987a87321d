"""Formula trees as MathML, as nested lists that the page builds its elements from: ["mfrac", ["mi", "a"], ["mn", "2"]]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from .formulas import MathTree, Tree

MINUS = "−"
_LEVELS = {"=": 0, "<": 1, ">": 1, "<=": 1, ">=": 1, "==": 1, "!=": 1, "+": 2, "-": 2, "*": 3, "@": 3, "/": 3, "negative": 2}
_SIGNS = {"*": "·", "@": "", "-": MINUS, "<=": "≤", ">=": "≥", "==": "=", "!=": "≠"}
_GREEK = {"pi": "π", "Phi": "Φ", "phi": "φ", "inf": "∞", "alpha": "α", "beta": "β", "delta": "δ", "lambd": "λ", "eps": "ε"}


def short_number(value: float) -> str:
    """A number for people: four significant digits, whole numbers up to a million in full, a true minus sign."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    exponent = int(f"{abs(value):.3e}".partition("e")[2])
    if -4 <= exponent < 6:
        text = f"{abs(value):.{max(3 - exponent, 0)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        mantissa = f"{abs(value):.3e}".partition("e")[0].rstrip("0").rstrip(".")
        text = f"{mantissa}e{str(exponent).replace('-', MINUS)}"
    return (MINUS if value < 0 else "") + text


def number(value: float) -> MathTree:
    """A number; one with a power of ten as such."""
    text = short_number(value)
    mantissa, e, exponent = text.partition("e")
    negative = mantissa.startswith(MINUS)
    parts: list[MathTree] = [["mn", mantissa.removeprefix(MINUS)]]
    if e:
        sign, digits = (["mo", MINUS], exponent[1:]) if exponent.startswith(MINUS) else (None, exponent)
        power = ["mrow", sign, ["mn", digits]] if sign else ["mn", digits]
        parts += [["mo", "×"], ["msup", ["mn", "10"], power]]
    if negative:
        parts.insert(0, ["mo", {"form": "prefix"}, MINUS])
    return parts[0] if len(parts) == 1 else ["mrow", *parts]


def bracketed(tree: MathTree) -> MathTree:
    """(tree)"""
    return ["mrow", ["mo", "("], tree, ["mo", ")"]]


def factor(value: float) -> MathTree:
    """A number as it stands in a product: in brackets where it is negative."""
    return bracketed(number(value)) if value < 0 or "e" in short_number(value) else number(value)


def tinted(tree: MathTree, kind: str) -> MathTree:
    """The tree in the colour of values or of gradients; kind: "value" or "gradient"."""
    return ["mrow", {"class": f"is-{kind}"}, tree]


def row(*parts: MathTree) -> MathTree:
    """The parts side by side, strings as operators."""
    return ["mrow", *(["mo", p] if isinstance(p, str) else p for p in parts)]


def identifier(symbol: str, subscript: str = "") -> MathTree:
    """A variable; Greek letters for the names of Greek letters."""
    base = ["mi", _GREEK.get(symbol, symbol)]
    return ["msub", base, ["mn" if subscript.isdigit() else "mtext", subscript]] if subscript else base


def text(words: str) -> MathTree:
    """Words among mathematics."""
    return ["mtext", words]


def spoken(tree: MathTree) -> str:
    """The mathematics in one line of plain text, for screen readers and titles."""
    if tree is None or isinstance(tree, str):
        return tree or ""
    tag, *children = tree
    prefix = bool(children) and isinstance(children[0], dict) and children[0].get("form") == "prefix"
    if children and isinstance(children[0], dict):
        children = children[1:]
    parts = [spoken(c) for c in children]
    if tag == "mfrac":
        return "/".join(_grouped(p) for p in parts)
    if tag == "msup":
        return "^".join(_grouped(p) for p in parts)
    if tag == "msubsup":
        return f"{parts[0]}_{parts[1]}^{parts[2]}"
    if tag in ("msub", "munder"):
        return "_".join(parts)
    if tag == "msqrt":
        return f"sqrt({' '.join(parts)})"
    if tag == "mo" and not prefix and parts[0] in _SPACED:
        return f" {parts[0]} "
    if tag == "mspace":
        return " "
    if tag == "mo" and parts[0] == ",":
        return ", "
    return (", " if tag in ("mtable", "mtr") else "").join(parts)


_SPACED = {"=", "+", MINUS, "×", "·", "<", ">", "≤", "≥", "⊙", "∑", "≠"}


def _grouped(text: str) -> str:
    depth, closes = 0, []
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            closes.append(i)
    in_brackets = text.startswith("(") and closes[:1] == [len(text) - 1]
    return text if in_brackets or text.replace(".", "").replace("_", "").isalnum() else f"({text})"


def render(tree: Tree, names: Mapping[str, MathTree] | None = None) -> MathTree:
    """The tree as MathML; names of `names` are shown as what they map to, ("value", number) as the number, in brackets if need be."""
    return _Writer(names or {}).write(tree)


def _value_level(value: float) -> int:
    return 2 if value < 0 else 3 if "e" in short_number(value) else 9


class _Writer:
    def __init__(self, names: Mapping[str, MathTree]) -> None:
        self.names = names

    def write(self, tree: Any, level: int = 0) -> MathTree:
        kind = tree[0]
        method: Callable[[Any], MathTree] | None = getattr(self, f"_{kind}", None) if kind.isidentifier() else None
        shown = method(tree) if method else self._binary(tree)
        own = _value_level(tree[1]) if kind == "value" else 9 if kind == "/" else _LEVELS.get(kind, 9)
        return bracketed(shown) if own < level else shown

    def _name(self, tree: Any) -> MathTree:
        return self.names[tree[1]] if tree[1] in self.names else identifier(tree[1])

    def _number(self, tree: Any) -> MathTree:
        return ["mn", tree[1]]

    def _value(self, tree: Any) -> MathTree:
        return tinted(number(tree[1]), "value")

    def _negative(self, tree: Any) -> MathTree:
        return ["mrow", ["mo", {"form": "prefix"}, MINUS], self.write(tree[1], 3)]

    def _absolute(self, tree: Any) -> MathTree:
        return ["mrow", ["mo", {"stretchy": "true"}, "|"], self.write(tree[1]), ["mo", {"stretchy": "true"}, "|"]]

    def _transposed(self, tree: Any) -> MathTree:
        base, sign = self.write(tree[1], 9), ["mi", {"mathvariant": "normal"}, "T"]
        return ["msubsup", *base[1:], sign] if base[0] == "msub" else ["msup", base, sign]

    def _index(self, tree: Any) -> MathTree:
        return ["msub", self.write(tree[1], 9), self._list(tree[2])]

    def _list(self, items: Any) -> MathTree:
        parts: list[MathTree] = []
        for i, item in enumerate(items):
            parts += [["mo", {"separator": "true"}, ","]] if i else []
            parts.append(["mo", "…"] if item == ("name", "...") else self.write(item))
        return parts[0] if len(parts) == 1 else ["mrow", *parts]

    def _call(self, tree: Any) -> MathTree:
        _, name, arguments = tree
        if name == "sqrt" and len(arguments) == 1:
            return ["msqrt", self.write(arguments[0])]
        if name == "exp" and len(arguments) == 1:
            return ["msup", ["mi", "e"], self.write(arguments[0])]
        if name == "floor" and len(arguments) == 1:
            return ["mrow", ["mo", "⌊"], self.write(arguments[0]), ["mo", "⌋"]]
        shown = _GREEK.get(name, name)
        return ["mrow", ["mi", {"mathvariant": "normal"}, shown], ["mo", "\u2061"], bracketed(self._list(arguments))]

    def _total(self, tree: Any) -> MathTree:
        under, term = self._list(tree[2]), tree[3] if tree[1] is None else tree[1]
        return ["mrow", ["munder", ["mo", {"movablelimits": "false"}, "∑"], under], self.write(term, 3)]

    def _cases(self, tree: Any) -> MathTree:
        rows = [
            ["mtr", ["mtd", self.write(value)], ["mtd", row(text("if\u00a0"), self.write(condition))]]
            for value, condition in tree[1]
        ]
        rows.append(["mtr", ["mtd", self.write(tree[2])], ["mtd", text("otherwise")]])
        return ["mrow", ["mo", {"stretchy": "true"}, "{"], ["mtable", {"columnalign": "left"}, *rows]]

    def _binary(self, tree: Any) -> MathTree:
        kind, left, right = tree
        if kind == "/":
            return ["mfrac", self.write(left), self.write(right)]
        if kind == "^":
            return ["msup", self.write(left, 9), self.write(right)]
        level = _LEVELS[kind]
        sign = _SIGNS.get(kind, kind)
        parts = [self.write(left, level)]
        if sign:
            parts.append(["mo", sign])
        else:
            parts.append(["mspace", {"width": "0.2em"}])
        negative = right[0] == "negative" or (right[0] == "value" and right[1] < 0)
        parts.append(self.write(right, level + (kind in "-*@" or negative)))
        return ["mrow", *parts]
