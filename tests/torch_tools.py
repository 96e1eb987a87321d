"""Finds PyTorch's counterpart of an operator, calls it with the same arguments, and reads its documented signature."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tinygrad_cv.registry import Operator

IGNORED = {
    "out", "dtype", "layout", "device", "requires_grad", "pin_memory", "memory_format", "generator", "_stacklevel", "compute_mode", "names",
}  # fmt: skip


def counterpart(name: str) -> Callable[..., Any] | None:
    """The PyTorch function of that name: torch.nn.functional, torch, torch.linalg, torch.special, or a Tensor method."""
    if "." in name:
        room, _, short = name.partition(".")
        return getattr(getattr(torch, room, None), short, None)
    for owner in (torch.nn.functional, torch, torch.special, torch.Tensor):
        found = getattr(owner, name, None)
        if callable(found) and not isinstance(found, type) and not inspect.ismodule(found):
            return _taking_numbers(found) if name == "lp_pool1d" else found
    return None


def _taking_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.wraps(function)(lambda *args: function(*map(single, args)))


def single(value: Any) -> Any:
    """A tuple of one integer as the integer: PyTorch's lp_pool1d takes nothing else."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def to_torch(value: Any, grad: bool = False) -> Any:
    """Arrays as tensors, dtypes as torch's, containers element by element."""
    if isinstance(value, np.ndarray):
        tensor = torch.from_numpy(value.copy())
        return tensor.requires_grad_() if grad and value.dtype.kind == "f" else tensor
    if isinstance(value, np.dtype):
        return getattr(torch, value.name)
    if isinstance(value, (tuple, list)):
        return type(value)(to_torch(v) for v in value)
    return value


def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The PyTorch function, without its deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def _parse(text: str) -> list[tuple[str, str, Any]] | None:
    """[(name, kind, default)] of a signature written as in Python; kind is 'positional', 'keyword' or 'star'."""
    text = re.sub(r"\[[^]]*\]", "[]", text) if "[" in text and "=[" not in text else text
    text = re.sub(r":\s*[A-Za-z_.\[\], |]+(?=[,=)])", "", text)
    try:
        tree = ast.parse(f"def f{text}: pass").body[0]
    except SyntaxError:
        return None
    assert isinstance(tree, ast.FunctionDef)
    a = tree.args

    def literal(node: ast.expr | None) -> Any:
        if node is None:
            return inspect.Parameter.empty
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):  # 1.0 / 8
            return literal(node.left) / literal(node.right)
        try:
            return ast.literal_eval(node)
        except ValueError:
            return ast.unparse(node)

    plain = a.posonlyargs + a.args
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
    found = [(p.arg, "positional", literal(d)) for p, d in zip(plain, defaults, strict=True)]
    if a.vararg:
        found.append((a.vararg.arg, "star", inspect.Parameter.empty))
    return found + [(p.arg, "keyword", literal(d)) for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)]


def documented(function: Callable[..., Any], name: str) -> list[list[tuple[str, str, Any]]]:
    """The signatures PyTorch documents for a function: from Python, else from the first lines of its documentation."""
    found = []
    short = name.rpartition(".")[2]
    for line in (function.__doc__ or "").splitlines():
        match = re.match(
            rf"\s*(?:\.\. (?:function|method):: )?(?:torch\.)?(?:Tensor\.|linalg\.|special\.)?{short}(\(.*?\))\s*(?:->.*)?$",
            line,
        )
        if match:
            parsed = _parse(match.group(1))
            if parsed:
                found.append(parsed)
    if found:
        return found
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return []
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return []
    kinds = {inspect.Parameter.KEYWORD_ONLY: "keyword", inspect.Parameter.VAR_POSITIONAL: "star"}
    return [[(p.name, kinds.get(p.kind, "positional"), p.default) for p in signature.parameters.values()]]


def difference(operator: Operator, theirs: list[tuple[str, str, Any]]) -> str | None:
    """How our signature differs from one of PyTorch's: a missing name, another order, another default. None if it does not."""
    ours = list(operator.signature.parameters.values())
    names = {p.name: p for p in ours}
    wanted = [t for t in theirs if t[0] not in IGNORED]
    for name, _, default in wanted:
        mine = names.get(name)
        if mine is None:
            return f"has no parameter {name!r} (PyTorch: {[t[0] for t in wanted]}, here: {list(names)})"
        same = mine.default is default or mine.default == default
        if not same and default is not inspect.Parameter.empty:
            return f"parameter {name!r} has default {mine.default!r}, PyTorch {default!r}"
    positional = [n for n, kind, _ in wanted if kind == "positional"]
    mine_positional = [p.name for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD and p.name in positional]
    leading = [p.name for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD][: len(mine_positional)]
    if mine_positional != [n for n in positional if n in mine_positional] or leading != mine_positional:
        return f"positional parameters {leading}, PyTorch {positional}"
    return None


def flat(value: Any) -> list[Any]:
    """One result, or several in a tuple or list, as a list without None."""
    return [v for v in (value if isinstance(value, (tuple, list)) else [value]) if v is not None]


class Pair:
    """One drawn call through both libraries, in float64 or float32: values, and the gradients of every differentiable array."""

    def __init__(self, sample: Any, function: Callable[..., Any], dtype: Any, rng: np.random.Generator) -> None:
        from tinygrad_cv import autograd
        from tinygrad_cv._tensor import Tensor, wrap

        arrays = sample.cast(dtype)
        wanted = sample.differentiable()
        while True:
            theirs_in = [to_torch(a, i in wanted) for i, a in enumerate(arrays)]
            args, kwargs = sample.arguments(theirs_in)
            try:
                self.theirs = flat(call(function, tuple(map(to_torch, args)), {k: to_torch(v) for k, v in kwargs.items()}))
                break
            except RuntimeError as error:  # PyTorch has no gradient for some weights and targets; this package has
                lacking = re.search(r"not differentiable with respect to argument '(\w+)'", str(error))
                if lacking is None or lacking.group(1) not in [sample.owners[i] for i in wanted]:
                    raise
                wanted = [i for i in wanted if sample.owners[i] != lacking.group(1)]
        ours_in = [wrap(a.copy()).requires_grad_(i in wanted) for i, a in enumerate(arrays)]
        self.ours = flat(sample.call_function(ours_in))
        self.gradients: list[tuple[str, np.ndarray, np.ndarray]] = []
        both = [
            (a, b) for a, b in zip(self.ours, self.theirs, strict=False)
            if isinstance(a, Tensor) and a.requires_grad and torch.is_tensor(b) and b.requires_grad and a.shape == tuple(b.shape)
        ]  # fmt: skip
        if not both or not wanted:
            return
        upstreams = [np.asarray(rng.uniform(0.5, 1.5, a.shape) * rng.choice([-1, 1], a.shape), a.dtype) for a, _ in both]
        mine = autograd.grad(
            [a for a, _ in both], [ours_in[i] for i in wanted], [wrap(u) for u in upstreams], allow_unused=True
        )
        their = torch.autograd.grad(
            [b for _, b in both],
            [theirs_in[i] for i in wanted],
            [torch.from_numpy(u.copy()) for u in upstreams],
            allow_unused=True,
        )
        for i, a, b in zip(wanted, mine, their, strict=True):
            zero = np.zeros_like(arrays[i])
            self.gradients.append(
                (sample.owners[i], zero if a is None else a.numpy(), zero if b is None else b.detach().numpy())
            )
