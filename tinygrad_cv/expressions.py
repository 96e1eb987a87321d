"""Arithmetic as people write it, turned into Tensors: the language of `tinygrad-cv explain "(x + y) * z" x=-2 y=5 z=-4`.

    expression = tg.expressions.parse("q = x + y; q * z")
    expression.variables                                   # ("x", "y", "z")
    f = expression(x=-2.0, y=5.0, z=-4.0)                  # tensor(-12.)
    f, names = expression.evaluate({"x": -2, "y": 5, "z": -4})
    f.backward(); names["x"].grad                          # tensor(-4.)

The grammar, in EBNF (blanks between symbols mean nothing, except that a line break ends a step as ";" does outside parentheses):

    program    = { step end } step [ end ] ;            end = ";" | line break ;
    step       = [ name "=" ] sum ;                     (the last step is the result)
    sum        = product { ( "+" | "-" ) product } ;
    product    = signed { ( "*" | "/" ) signed } ;
    signed     = ( "-" | "+" ) signed | power ;
    power      = atom [ "**" signed ] ;                 (so -x ** 2 is -(x ** 2), and 2 ** 3 ** 2 is 2 ** 9, as in Python)
    atom       = number | name | call | "(" sum ")" ;
    call       = name "(" [ argument { "," argument } ] ")" ;
    argument   = [ name "=" ] ( sum | string | "None" | "True" | "False" ) ;
    number     = digits [ "." [ digits ] ] [ exponent ] | "." digits [ exponent ] ;
    exponent   = ( "e" | "E" ) [ "+" | "-" ] digits ;
    name       = ( letter | "_" ) { letter | "_" | digit } ;
    string     = "'" { any character but "'" } "'" | '"' { any character but '"' } '"' ;

A called name is an elementwise operator of the registry, built-in or from a plugin, with the arguments that it has as a function of
`tinygrad_cv`, as in `leaky_relu(x, negative_slope=0.1)`; `max`, `min` and `ln` mean `maximum`, `minimum` and `log`. A name that is
not called is a variable, or one of the steps before; `pi` is 3.14159... unless it is given a value.

Nothing is handed to Python's own evaluator. One loop reads the text from left to right, holding operators back until the next one
binds less tightly (V. R. Pratt, "Top down operator precedence", POPL 1973, with a list in place of recursion), so nesting is
bounded by memory alone, and both time and memory by the length of the text, of which `MAX_LENGTH` characters are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._tensor import Tensor
from .creation import tensor
from .dtypes import get_default_dtype
from .expression_parser import CONSTANTS, ExpressionError, Parser, Step, callable_operators, split_steps

MAX_LENGTH = 100_000
"""Characters of the longest expression that is read."""


class Expression:
    """A parsed expression. Call it with a number or Tensor for each of its `variables`.

    text: what was parsed. variables: the names it needs values for, in order of appearance. steps: the names it gives to steps.
    """

    def __init__(self, text: str, program: Sequence[Step]) -> None:
        self.text = text
        self._program = tuple(program)
        self.steps = tuple(s.value for s in program if s.kind == "set")
        self._places: dict[str, int] = {}
        assigned: set[str] = set()
        for step in program:
            if step.kind == "set":
                assigned.add(step.value)
            elif step.kind == "name" and step.value not in assigned:
                self._places.setdefault(step.value, step.column)
        self.variables = tuple(name for name in self._places if name not in CONSTANTS)

    def __call__(self, **values: Any) -> Tensor:
        """The result for the given numbers or Tensors. ExpressionError as in `evaluate`."""
        return self.evaluate(values)[0]

    def evaluate(self, values: Mapping[str, Any], dtype: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The result, and the Tensors by name: variables in order of appearance, then steps.

        values: Tensors, taken as they are, or numbers and nested lists of them, which become leaves of `dtype` (default: the default
        dtype) that require grad. ExpressionError for a missing or unknown name and for operands that an operator refuses.
        """
        for name in values:
            if name not in self._places:
                own = ", ".join(self.variables) or "none"
                raise ExpressionError(f"a value was given for {name!r}, but the variables here are: {own}", self.text, 0)
        missing = [name for name in self.variables if name not in values]
        if missing:
            function = f" (the function is {missing[0]}(...))" if missing[0] in callable_operators() else ""
            among = f"; still missing: {', '.join(missing)}" if len(missing) > 1 else ""
            raise ExpressionError(
                f"no value was given for {missing[0][:40]!r}{function}; give one, as in {missing[0][:40]}=1.5{among}",
                self.text,
                self._places[missing[0]],
            )
        dtype = get_default_dtype() if dtype is None else dtype
        names: dict[str, Tensor] = {}
        for name, place in self._places.items():
            if name in values:
                names[name] = _leaf(name, values[name], dtype, self.text, place)
        stack: list[Any] = []
        for step in self._program:
            if step.kind == "name":
                stack.append(names[step.value] if step.value in names else CONSTANTS[step.value])
            elif step.kind == "set":
                names[step.value] = _as_tensor(stack.pop(), dtype)
            elif step.kind == "call":
                count = len(step.keywords)
                arguments = stack[len(stack) - count :]
                del stack[len(stack) - count :]
                stack.append(self._apply(step, arguments, dtype))
            else:
                stack.append(step.value)
        return _as_tensor(stack.pop(), dtype), names

    def _apply(self, step: Step, arguments: list[Any], dtype: Any) -> Tensor:
        operator = step.value
        positional = [a for a, k in zip(arguments, step.keywords, strict=True) if k is None]
        named = {k: a for a, k in zip(arguments, step.keywords, strict=True) if k is not None}
        bound = operator.own_signature.bind(*positional, **named)
        given = [p for p in operator.tensor_params if bound.arguments.get(p) is not None]
        if not any(isinstance(bound.arguments[p], Tensor) for p in given):
            bound.arguments[given[0]] = _as_tensor(bound.arguments[given[0]], dtype)
        try:
            result = operator.function(*bound.args, **bound.kwargs)
        except (ValueError, TypeError, RuntimeError, IndexError, OverflowError) as error:
            raise ExpressionError(str(error), self.text, step.column) from error
        if not isinstance(result, Tensor):
            raise ExpressionError(f"{operator.name} gives several tensors here, not one", self.text, step.column)
        return result

    def __repr__(self) -> str:
        return f"<Expression {self.text if len(self.text) <= 60 else self.text[:57] + '...'!r}>"


def _as_tensor(value: Any, dtype: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    with np.errstate(over="ignore"):  # 1e100 is infinite in float32
        made: Tensor = tensor(float(value), dtype=dtype)
    return made


def _leaf(name: str, value: Any, dtype: Any, text: str, place: int) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iufb" or array.dtype == object:
            raise TypeError(f"got {value!r}")
        with np.errstate(over="ignore"):
            return tensor(array.astype(np.float64), dtype=dtype, requires_grad=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise ExpressionError(
            f"the value of {name!r} must be a number, a list of them or a Tensor: {error}", text, place
        ) from None


def parse(text: str) -> Expression:
    """Reads an expression; see the module's docstring for the grammar. ExpressionError, with the place, for any text that is none."""
    if not isinstance(text, str):
        raise TypeError(f"parse: expected the expression as text, got {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"{len(text)} characters are more than the {MAX_LENGTH} that are read", text, MAX_LENGTH)
    parser = Parser(text)
    for step, is_last in split_steps(text):
        parser.read_step(step, is_last)
    return Expression(text, parser.program)


def functions() -> tuple[str, ...]:
    """The names that an expression may call: the elementwise operators of the registry, with their aliases, and max, min and ln."""
    return tuple(sorted(callable_operators()))


__all__ = ["MAX_LENGTH", "Expression", "ExpressionError", "functions", "parse"]
