"""Operators in both directions, and a chain of elementwise ones that only a compiler can make into one loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .libraries import Context, has_jax, jax_call, with_our_compile, with_torch_compile
from .timing import Call, Missing, contest


@dataclass(frozen=True)
class Operator:
    """`apply(library, x, *parameters)` in the text that both libraries understand; parameters: one-axis sizes, learned as well."""

    name: str
    shape: tuple[int, ...]
    apply: Callable[..., Any]
    parameters: tuple[int, ...] = ()
    positive: bool = False
    jax: str | None = None  # its name in jax.numpy or jax.nn


PLANE, IMAGE = (4096, 1024), (32, 64, 32, 32)
CASES = (
    Operator("exp", PLANE, lambda lib, x: x.exp(), jax="exp"),
    Operator("log", PLANE, lambda lib, x: x.log(), positive=True, jax="log"),
    Operator("tanh", PLANE, lambda lib, x: x.tanh(), jax="tanh"),
    Operator("sigmoid", PLANE, lambda lib, x: x.sigmoid(), jax="sigmoid"),
    Operator("gelu", PLANE, lambda lib, x: lib.nn.functional.gelu(x)),
    Operator("softmax", (4096, 1000), lambda lib, x: x.softmax(-1), jax="softmax"),
    Operator(
        "batch norm", IMAGE, lambda lib, x, w, b: lib.nn.functional.batch_norm(x, None, None, w, b, True), parameters=(64, 64)
    ),
    Operator(
        "layer norm", (4096, 768), lambda lib, x, w, b: lib.nn.functional.layer_norm(x, (768,), w, b), parameters=(768, 768)
    ),
    Operator("max pool 2x2", IMAGE, lambda lib, x: lib.nn.functional.max_pool2d(x, 2)),
    Operator("average pool 2x2", IMAGE, lambda lib, x: lib.nn.functional.avg_pool2d(x, 2)),
)


def _backward(library: Any, operator: Operator, tensors: list[Any], upstream: Any) -> Call:
    """The gradients in everything, from a graph recorded once."""
    inputs = [t.requires_grad_() for t in tensors]
    out = operator.apply(library, *inputs)
    return lambda: library.autograd.grad(out, inputs, upstream, retain_graph=True)


def group(context: Context) -> Iterator[dict[str, Any]]:
    """Two rows for each operator: forward without a graph, and the gradients in all inputs."""
    import torch

    import tinygrad_cv as tg

    rng = np.random.default_rng(0)
    for operator in CASES:
        shape = tuple(max(n // 8, 4) for n in operator.shape) if context.quick and not operator.parameters else operator.shape
        x = rng.standard_normal(shape, np.float32)
        data = [np.abs(x) + 0.1 if operator.positive else x]
        data += [rng.uniform(0.5, 1.5, n).astype(np.float32) for n in operator.parameters]
        ours, theirs = [tg.from_numpy(a) for a in data], [torch.from_numpy(a) for a in data]
        entrants: dict[str, Call | Missing] = {
            "ours": partial(_apply, tg, operator, ours),
            "PyTorch": partial(_apply, torch, operator, theirs),
        }
        if operator.jax and has_jax():
            entrants["JAX"] = _jax(operator.jax, data[0])
        out = operator.apply(torch, *theirs)
        moved = 4 * (x.size + out.numel())
        yield contest(f"{operator.name} {_text(shape)} forward", entrants, context.plan, bytes=moved)
        upstream = rng.standard_normal(tuple(out.shape), np.float32)
        entrants = {
            "ours": _backward(tg, operator, ours, tg.from_numpy(upstream)),
            "PyTorch": _backward(torch, operator, theirs, torch.from_numpy(upstream)),
        }
        yield contest(
            f"{operator.name} {_text(shape)} backward", entrants, context.plan, tolerance=1e-3, bytes=moved + 4 * x.size
        )


def _apply(library: Any, operator: Operator, tensors: list[Any]) -> Any:
    with library.no_grad():
        return operator.apply(library, *tensors)


def _jax(name: str, x: np.ndarray) -> Call:
    import jax

    function = getattr(jax.numpy, name, None) or getattr(jax.nn, name)
    return jax_call(function, x)


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def chain(x: Any) -> Any:
    """The sum of x * sigmoid(1.702 x) + tanh(x): five elementwise operators and a sum."""
    return ((x * 1.702).sigmoid() * x + x.tanh()).sum()


def chain_group(context: Context) -> Iterator[dict[str, Any]]:
    """The chain forward, and forward and backward, eager and compiled."""
    import torch

    import tinygrad_cv as tg

    shape = (64, 64) if context.quick else PLANE
    x = np.random.default_rng(0).uniform(-2, 2, shape).astype(np.float32) + np.float32(0.5)
    ours, theirs = tg.from_numpy(x), torch.from_numpy(x)
    entrants: dict[str, Call | Missing] = {
        "ours": lambda: chain(ours),
        "ours compiled": with_our_compile(lambda compile: _bound(compile(chain), ours)),
        "PyTorch": lambda: chain(theirs),
        "torch.compile": with_torch_compile(lambda compile: _bound(compile(chain), theirs), context),
    }
    if has_jax():
        import jax

        def for_jax(a: Any) -> Any:
            return (jax.nn.sigmoid(a * 1.702) * a + jax.numpy.tanh(a)).sum()

        entrants["JAX"] = jax_call(for_jax, x)
    yield contest(f"{_text(shape)} forward", entrants, context.plan, bytes=x.nbytes)
    entrants = {
        "ours": _value_and_gradient(tg, chain, tg.from_numpy(x)),
        "ours compiled": with_our_compile(
            lambda compile: _bound(compile(_gradient(tg, chain)), tg.from_numpy(x).requires_grad_())
        ),
        "PyTorch": _value_and_gradient(torch, chain, torch.from_numpy(x)),
        "torch.compile": with_torch_compile(
            lambda compile: _value_and_gradient(torch, compile(chain), torch.from_numpy(x)), context
        ),
    }
    if has_jax():
        entrants["JAX"] = jax_call(jax.grad(for_jax), x)
    yield contest(f"{_text(shape)} forward and backward", entrants, context.plan, tolerance=1e-3, bytes=3 * x.nbytes)


def _bound(function: Callable[[Any], Any], x: Any) -> Call:
    return lambda: function(x)


def _gradient(library: Any, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: library.autograd.grad(function(x), [x])[0]


def _value_and_gradient(library: Any, function: Callable[[Any], Any], x: Any) -> Call:
    return _bound(_gradient(library, function), x.requires_grad_())
