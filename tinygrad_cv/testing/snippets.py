"""A function as text that makes it again in an empty file, for the programs that failures print.

Built-in operators and what installed packages export are imported. Everything else is copied: its source, and in front of that what
the source uses, found by reading its names and looking them up where the function lives.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..registry import ENTRY_POINT_GROUP, Operator
from .samples import source

_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type(Ellipsis),
    range,
    slice,
    np.generic,
    np.ndarray,
    np.dtype,
    Tensor,
)


_SHOWN = ("tinygrad_cv.extend", "tinygrad_cv.autograd", "tinygrad_cv.nn")  # where names of this package are best taken from


class Unwritable(Exception):
    """Something a function uses cannot be written down."""


class Writer:
    """Collects the lines that definitions need, in an order that runs: `imports`, then `definitions`."""

    def __init__(self) -> None:
        self.imports: dict[str, None] = {}
        self.definitions: dict[str, str] = {}
        self._busy: set[int] = set()

    def lines(self) -> list[str]:
        """The imports, and the definitions after a blank line each."""
        written = list(self.imports)
        for text in self.definitions.values():
            written += ["", *text.splitlines()]
        return written

    def expression(self, value: Any) -> str:
        """Python text that is `value` once `lines()` have run. Unwritable if there is none."""
        operator = value if isinstance(value, Operator) else getattr(value, "operator", None)
        if isinstance(operator, Operator):
            self.operator(operator)
            found = f"tg.ops.get({operator.name!r})"
            return f"{found}.inplace" if value is not operator and value is operator.inplace else found
        if isinstance(value, functools.partial):
            self.imports["import functools"] = None
            keywords = [f"{k}={self.expression(v)}" for k, v in value.keywords.items()]
            return (
                f"functools.partial({', '.join([self.expression(value.func), *map(self.expression, value.args), *keywords])})"
            )
        if isinstance(value, MethodType) and isinstance(value.__self__, type):
            return f"{self.expression(value.__self__)}.{value.__name__}"
        if isinstance(value, (FunctionType, type)) or inspect.isbuiltin(value) or isinstance(value, np.ufunc):
            return self.function(value)
        return self.value(value)

    def operator(self, operator: Operator) -> None:
        """Makes a foreign operator known: by the entry point that loads it, or by a copy of its declaration."""
        module = operator.declaration.__module__.partition(".")[0]
        if module != "tinygrad_cv" and not _has_entry_point(module):
            self.define(operator.declaration.__name__, operator.declaration)

    def function(self, value: Any) -> str:
        """The name or expression of a function or class, imported or copied."""
        name = getattr(value, "__name__", "")
        module = getattr(value, "__module__", None) or "builtins"
        qualified = getattr(value, "__qualname__", name)
        if module == "builtins":
            return qualified
        if _installed(module) and "<" not in qualified and "." not in qualified:
            self.imports[f"from {module} import {name}"] = None
            return name
        if name == "<lambda>":
            return f"({self.copied(value)})"
        self.define(name, value)
        return name

    def value(self, value: Any) -> str:
        """A constant, or a container of what can be written."""
        if isinstance(value, _PLAIN):
            return source(value)
        if type(value) in (list, tuple, set) and value:
            inner = ", ".join(map(self.expression, value))
            return f"[{inner}]" if type(value) is list else f"({inner},)" if type(value) is tuple else f"{{{inner}}}"
        if type(value) is dict:
            return "{" + ", ".join(f"{self.expression(k)}: {self.expression(v)}" for k, v in value.items()) + "}"
        if type(value) in (list, tuple):
            return repr(value)
        raise Unwritable(f"a {type(value).__name__}")

    def define(self, name: str, value: Any) -> None:
        """Adds a definition of `name` and of what it uses."""
        if name in self.definitions or id(value) in self._busy:
            return
        self._busy.add(id(value))
        text = self.copied(value)
        self.definitions[name] = text

    def copied(self, value: Any) -> str:
        """The source of a function or class; what it uses is defined first."""
        text = _lambda_text(value) if getattr(value, "__name__", "") == "<lambda>" else _text(value)
        tree, scope = ast.parse(text), _scope(value)
        bound = _bound(tree)
        for name in sorted(_names(tree) - bound):
            if name in scope:
                self.bring(name, scope[name])
            elif not hasattr(builtins, name):
                raise Unwritable(f"{name}, a variable that is gone")
        return text

    def bring(self, name: str, value: Any) -> None:
        """Makes `value` known as `name`."""
        if isinstance(value, ModuleType):
            if not _installed(value.__name__):
                raise Unwritable(f"the module {value.__name__}")
            self.imports[f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}")] = None
            return
        module = getattr(value, "__module__", None)
        if isinstance(module, str) and _installed(module):
            shown = _SHOWN if module.partition(".")[0] == "tinygrad_cv" else ()
            for place in (*shown, module):
                if getattr(sys.modules.get(place), name, None) is value:
                    self.imports[f"from {place} import {name}"] = None
                    return
        try:
            written = self.expression(value)
        except Unwritable as error:
            raise Unwritable(f"{name}, {error}") from None
        if written != name and name not in self.definitions:
            self.definitions[name] = f"{name} = {written}"


def _installed(module: str) -> bool:
    """Whether a fresh interpreter can import the module from anywhere."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "tinygrad_cv":
        return top != "__main__"
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts) or _has_entry_point(top)


@functools.cache
def _has_entry_point(module: str) -> bool:
    import importlib.metadata

    return any(p.module.partition(".")[0] == module for p in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))


def _text(value: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(value)).rstrip()
    except (OSError, TypeError):
        raise Unwritable(f"{getattr(value, '__qualname__', value)}, whose source is not in a file") from None


def _lambda_text(value: FunctionType) -> str:
    """The lambda's own text: of those that start on its line, the one its instructions lie in."""
    lines = linecache.getlines(value.__code__.co_filename)
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        tree = ast.parse("")
    places = [p for p in value.__code__.co_positions() if p[2] is not None and p[0] is not None][1:]
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno == value.__code__.co_firstlineno:
            body = node.body
            start, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
            inside = [p for p in places if start <= (p[0], p[2]) and (p[1] or 0, p[3] or 0) <= end]
            if inside and len(inside) >= len(places) - 1:
                return ast.get_source_segment("".join(lines), node) or ast.unparse(node)
    raise Unwritable("a lambda whose source is not in a file")


def _scope(value: Any) -> dict[str, Any]:
    """The names a function, or the methods of a class, can see: globals, and variables of enclosing functions."""
    functions = [value] if isinstance(value, FunctionType) else list(_functions_of(value))
    found: dict[str, Any] = dict(vars(sys.modules.get(value.__module__, ModuleType("none"))))
    for function in functions:
        found.update(function.__globals__)
    for function in functions:
        closure: tuple[Any, ...] = function.__closure__ or ()
        for name, cell in zip(function.__code__.co_freevars, closure, strict=True):
            try:
                found[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
    return found


def _functions_of(value: type) -> Iterator[Callable[..., Any]]:
    for member in vars(value).values():
        function = getattr(member, "__func__", member)
        if isinstance(function, FunctionType):
            yield function


def _names(tree: ast.AST) -> set[str]:
    """The names that are read, annotations aside: those are not evaluated where a program starts as ours do."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        skipped = [getattr(node, field, None) for field in ("annotation", "returns")]
        waiting += [child for child in ast.iter_child_nodes(node) if not any(child is s for s in skipped)]
    return found


def _bound(tree: ast.AST) -> set[str]:
    """The names that are given a value anywhere in the text."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


__all__ = ["Unwritable", "Writer"]
