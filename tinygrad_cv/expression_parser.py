"""Reads the text of an expression into the steps that compute it; the grammar is in expressions.py."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import registry

_SYNONYMS = {"max": "maximum", "min": "minimum", "ln": "log"}
CONSTANTS = {"pi": math.pi}
_WORDS = {"None": None, "True": True, "False": False}
_BINARY = {"+": ("add", 10), "-": ("sub", 10), "*": ("mul", 20), "/": ("div", 20), "**": ("pow", 40)}
_UNARY_BINDS = 30
_TOKEN = re.compile(
    r"(?P<blank>[ \t\r]+)|(?P<end>[;\n])|(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[^\W\d]\w*)"
    r"|(?P<string>'[^'\n]*'|\"[^\"\n]*\")|(?P<symbol>\*\*|==|!=|<=|>=|&&|\|\||//|.)",
    re.DOTALL,
)
_INSTEAD = {
    "^": "write ** for a power",
    "//": "write floor_divide(a, b)",
    "%": "write remainder(a, b)",
    "<": "write lt(a, b)",
    ">": "write gt(a, b)",
    "<=": "write le(a, b)",
    ">=": "write ge(a, b)",
    "==": "write eq(a, b)",
    "!=": "write ne(a, b)",
    "&&": "write logical_and(a, b)",
    "||": "write logical_or(a, b)",
    "&": "write bitwise_and(a, b) or logical_and(a, b)",
    "|": "write abs(a), bitwise_or(a, b) or logical_or(a, b)",
    "~": "write bitwise_not(a) or logical_not(a)",
    "!": "write logical_not(a)",
    "[": "group with ( )",
    "]": "group with ( )",
    "{": "group with ( )",
    "}": "group with ( )",
    "×": "write * for a product",
    "·": "write * for a product",
    "÷": "write / for a quotient",
    "−": "write - (the hyphen) for minus",
    "–": "write - (the hyphen) for minus",
    "√": "write sqrt(a)",
    ".": "a number looks like 0.5 or .5",
    "'": "this quote is never closed",
    '"': "this quote is never closed",
}


class ExpressionError(ValueError):
    """Text that is no expression, or values that it cannot be computed with.

    column: where, counted from 0, in `text`. reason: what is wrong and what would be right. The message shows both, with a caret.
    """

    def __init__(self, reason: str, text: str, column: int) -> None:
        self.reason, self.text, self.column = reason, text, column
        super().__init__(f"expression: {reason}\n{_pointed(text, column)}")


def _pointed(text: str, column: int, around: int = 36) -> str:
    """The text near a column, on one line, and a caret under it."""
    start, stop = max(0, column - around), min(len(text), column + around)
    before, after = ("..." if start else ""), ("..." if stop < len(text) else "")
    shown = "".join(c if c.isprintable() else " " for c in text[start:stop])
    wide = (
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in shown[: column - start]
    )
    return f"  {before}{shown}{after}\n  {' ' * (len(before) + sum(wide))}^"


class Token(NamedTuple):
    kind: str  # "number", "name", "string", "symbol" or "end"
    value: str
    column: int


class Step(NamedTuple):
    """One instruction of the stack machine: "number", "word", "name", "set", or "call" of an operator with so many arguments."""

    kind: str
    value: Any
    column: int
    keywords: tuple[str | None, ...] = ()


class _Held(NamedTuple):
    """What waits for its operands: a "prefix" or "infix" operator, with how tightly it binds, or a parenthesis, "(" or "call"."""

    kind: str
    name: str
    binds: int
    column: int
    starts: list[int]  # where in the program its operand, or each of its arguments, begins
    keywords: list[str | None]


def callable_operators() -> dict[str, Any]:
    """The operators that an expression may call, by each of their names."""
    usable = [o for o in registry.operators() if o.elementwise and not o.internal and not o.random]
    found = {name: o for o in usable for name in (o.name, *o.aliases)}
    found.update({name: found[meaning] for name, meaning in _SYNONYMS.items() if meaning in found})
    return found


def split_steps(text: str) -> Iterator[tuple[list[Token], bool]]:
    """The symbols of each step, and whether it is the last. A step ends with a token of kind "end"."""
    steps: list[list[Token]] = [[]]
    depth = 0
    for match in _TOKEN.finditer(text):
        kind, value = str(match.lastgroup), match.group()
        depth += (value == "(") - (value == ")")
        if kind == "blank" or (value == "\n" and depth > 0):
            continue
        steps[-1].append(Token(kind, value, match.start()))
        if kind == "end":
            steps.append([])
    steps[-1].append(Token("end", "", len(text)))
    filled = [step for step in steps if len(step) > 1] or [steps[-1]]
    for step in filled:
        yield step, step is filled[-1]


class Parser:
    """One pass from left to right; `program` is the expression in the order of execution, `held` what waits for its operands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.program: list[Step] = []
        self.held: list[_Held] = []
        self.taken: set[str] = {*CONSTANTS, *_WORDS}  # names that a step may not have
        self.target = ""  # the name of the step that is being read
        self.known = callable_operators()

    def read_step(self, tokens: list[Token], is_last: bool) -> None:
        """Reads `[name =] sum`; what is not the last step must have a name."""
        target = tokens[0] if len(tokens) > 2 and tokens[0].kind == "name" and tokens[1].value == "=" else None
        if target is None and not is_last:
            raise self._error("only the last step gives the result: name this one, as in `q = x + y; q * z`", tokens[0].column)
        if target is not None and target.value in self.taken:
            raise self._error(f"{target.value[:40]!r} has a value already; give this step another name", target.column)
        self.target = "" if target is None else target.value
        self._read_sum(tokens, 0 if target is None else 2)
        if target is not None:
            self.taken.add(target.value)
            self.program.append(Step("set", target.value, target.column))
            if is_last:
                self.program.append(Step("name", target.value, target.column))

    def _read_sum(self, tokens: list[Token], position: int) -> None:
        operand_next = True
        while position < len(tokens):
            token = tokens[position]
            position += 1
            if operand_next:
                ahead = tokens[position].value if position < len(tokens) else ""
                operand_next = self._operand(token, ahead)
                position += (token.kind == "name") and (ahead == "(" or ahead == "=")  # read together with the name
            elif token.value == ")":
                self._close(token.column)
            elif token.value == ",":
                self._next_argument(token.column)
                operand_next = True
            elif token.value in _BINARY:
                name, binds = _BINARY[token.value]
                self._release(binds + (token.value == "**"))  # powers group to the right, all others to the left
                self.held.append(_Held("infix", name, binds, token.column, [len(self.program)], []))
                operand_next = True
            elif token.kind == "end":
                self._finish()
            else:
                raise self._error(self._no_operator(token, tokens[position - 2]), token.column)

    def _operand(self, token: Token, ahead: str) -> bool:
        """Reads what may stand where an operand begins. True if the operand itself is still to come."""
        kind, value, column = token
        if kind == "number":
            self.program.append(Step("number", self._number(value, column), column))
        elif kind == "string" or value in _WORDS:
            self.program.append(Step("word", _WORDS[value] if value in _WORDS else value[1:-1], column))
        elif kind == "name" and ahead == "(":
            self._open_call(value, column)
            return True
        elif kind == "name" and ahead == "=":
            self._keyword(value, column)
            return True
        elif kind == "name":
            if value == self.target:
                raise self._error(f"{value[:40]!r} is the name of this step: what it is made of needs another name", column)
            self.taken.add(value)
            self.program.append(Step("name", value, column))
        elif value == "(":
            self.held.append(_Held("(", "", 0, column, [len(self.program)], []))
            return True
        elif value == "-":
            self.held.append(_Held("prefix", "neg", _UNARY_BINDS, column, [len(self.program)], []))
            return True
        elif value != "+":
            raise self._error(self._no_operand(token), column)
        return value == "+"

    def _no_operand(self, token: Token) -> str:
        if token.value in _INSTEAD:
            return f"{token.value!r} is not part of an expression: {_INSTEAD[token.value]}"
        opened = self.held[-1] if self.held else None
        if token.value == ")" and opened is not None and opened.kind == "call" and opened.starts == [len(self.program)]:
            return f"{self._usage(opened.name)}, got nothing"
        where = "the expression ends" if token.kind == "end" else f"there is {token.value!r}"
        if not self.text.strip(" \t\r\n;"):
            return "there is nothing to compute; write something like (x + y) * z"
        return f"a number, a variable or ( is expected here, but {where}"

    def _no_operator(self, token: Token, before: Token) -> str:
        """Says what is wrong with a symbol that follows a complete operand."""
        value = token.value[:40]
        if value == "=":
            return "a step is named at its beginning, as in `q = x + y; q * z`; eq(a, b) compares"
        if value == "(" or token.kind in ("name", "number"):
            if before.kind == "name" and before.value in self.known:
                return f"{before.value} is a function: write {before.value}({value if value != '(' else '...'})"
            return f"an operator is missing before {value!r}; for a product write *"
        if value in _INSTEAD:
            return f"{value!r} is not part of an expression: {_INSTEAD[value]}"
        return f"one of + - * / ** or the end is expected here, but there is {value!r}"

    def _number(self, text: str, column: int) -> int | float:
        if text.isdigit() and len(text) <= 15:
            return int(text)
        number = float(text)
        if math.isinf(number):
            raise self._error(f"{text[:40]} is too large: the largest number is about 1.8e308", column)
        return number

    def _error(self, reason: str, column: int) -> ExpressionError:
        return ExpressionError(reason, self.text, column)

    def _release(self, binds: int) -> None:
        """Writes out the held operators that bind at least as tightly: their operands are complete."""
        while self.held and self.held[-1].kind in ("prefix", "infix") and self.held[-1].binds >= binds:
            done = self.held.pop()
            operands = [self.program[-1]] if done.kind == "prefix" else [self.program[done.starts[0] - 1], self.program[-1]]
            for operand in operands:  # a word is a program of one step, so the last step of an operand shows whether it is one
                if operand.kind == "word":
                    raise self._error(f"{operand.value!r} is no number to calculate with", operand.column)
            if done.kind == "prefix" and operands[0].kind == "number":
                self.program[-1] = Step("number", -operands[0].value, done.column)
            else:
                self.program.append(Step("call", self.known[done.name], done.column, (None,) * len(operands)))

    def _keyword(self, name: str, column: int) -> None:
        """`name =` where an operand begins: the name of an argument."""
        opened = self.held[-1] if self.held else None
        if opened is None or opened.kind != "call" or opened.starts[-1] != len(self.program) or opened.keywords[-1] is not None:
            raise self._error("= names a step at its beginning or an argument of a function; eq(a, b) compares", column)
        opened.keywords[-1] = name

    def _open_call(self, name: str, column: int) -> None:
        if name not in self.known:
            near = difflib.get_close_matches(name[:60], self.known, 3, 0.6) if len(name) > 1 else []
            near += [n for n in sorted(self.known) if len(name) > 1 and n not in near and n.startswith(name.lower())][:3]
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"for a product write {name[:40]} * (...); `tinygrad-cv ops` lists the operators"
            )
            raise self._error(f"no elementwise operator is called {name[:40]!r}; {hint}", column)
        self.held.append(_Held("call", name, 0, column, [len(self.program)], [None]))

    def _usage(self, name: str) -> str:
        operator = self.known[name]
        parameters = [
            p.name if p.default is p.empty else f"{p.name}={p.default!r}"
            for p in operator.own_signature.parameters.values()
            if p.name != "inplace"
        ]
        return f"{name} takes ({', '.join(parameters)})"

    def _enclosing(self) -> _Held | None:
        """Completes what stands before a comma, a ) or the end, and gives the parenthesis around it."""
        self._release(0)
        return self.held[-1] if self.held else None

    def _next_argument(self, column: int) -> None:
        opened = self._enclosing()
        if opened is None or opened.kind != "call":
            raise self._error("a comma parts the arguments of a function, as in maximum(x, y), and this is in none", column)
        opened.starts.append(len(self.program))
        opened.keywords.append(None)

    def _close(self, column: int) -> None:
        opened = self._enclosing()
        if opened is None:
            raise self._error("this ) closes nothing: there is no ( before it", column)
        self.held.pop()
        if opened.kind == "call":
            self._check_call(opened)
            self.program.append(Step("call", self.known[opened.name], opened.column, tuple(opened.keywords)))

    def _check_call(self, call: _Held) -> None:
        """Arguments against the operator's signature: how many, which names, and constants where it takes no tensor."""
        operator, usage = self.known[call.name], self._usage(call.name)
        named = [k for k in call.keywords if k is not None]
        if len(set(named)) < len(named) or None in call.keywords[len(call.keywords) - len(named) :]:
            raise self._error(f"{usage}: arguments with a name come last, each once", call.column)
        for name in named:
            if name not in operator.own_signature.parameters:
                raise self._error(f"{usage}: it has no argument {name[:40]!r}", call.column)
        places = dict(enumerate(call.keywords))
        try:
            bound = operator.own_signature.bind(
                *[i for i, k in places.items() if k is None], **{k: i for i, k in places.items() if k is not None}
            ).arguments
        except TypeError as error:
            raise self._error(f"{usage}: {error}", call.column) from None
        ends = [*call.starts[1:], len(self.program)]
        tensors = 0
        for name, place in bound.items():
            first, alone = self.program[call.starts[place]], ends[place] - call.starts[place] == 1
            if name == "inplace":
                raise self._error("an expression never writes into its variables: leave inplace out", first.column)
            if name not in operator.tensor_params:
                if not (alone and first.kind in ("number", "word")):
                    raise self._error(f"{name} of {call.name} must be a constant, such as {name}=0.5", first.column)
            elif first.kind != "word":
                tensors += 1
            elif first.value is not None or name not in operator.optional_tensors:
                raise self._error(f"{name} of {call.name} must be a number or an expression, not {first.value!r}", first.column)
        if not tensors:
            raise self._error(f"{usage}, and at least one number or expression among them", call.column)

    def _finish(self) -> None:
        opened = self._enclosing()
        if opened is not None:
            raise self._error(f"this {opened.name}( is never closed: a ) is missing", opened.column + len(opened.name))
        if self.program[-1].kind == "word":
            raise self._error(f"{self.program[-1].value!r} is no number to calculate with", self.program[-1].column)
