"""The libraries that take part, and what a group needs to know to let them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .timing import Call, Missing, Plan, attempt


@dataclass(frozen=True)
class Context:
    """plan: how long to measure. threads: for every library alike. machine: its figures (`machine.Machine`)."""

    plan: Plan
    threads: int
    machine: Any

    @property
    def quick(self) -> bool:
        """Whether this is only to see that the program works."""
        return self.plan.quick


def has_jax() -> bool:
    """Whether JAX is installed."""
    found = importlib.util.find_spec("jax")
    return found is not None and found.origin is not None  # a folder that happens to be called so has none


def set_threads(count: int) -> None:
    """Gives tinygrad_cv and PyTorch `count` threads."""
    import torch

    import tinygrad_cv as tg

    torch.set_num_threads(count)
    tg.set_num_threads(count)


def with_torch_compile(make: Callable[[Callable[[Any], Any]], Call], context: Context) -> Call | Missing:
    """`make(compile)`, where `compile` is torch.compile (inductor), left out of quick runs: it calls a C++ compiler for each case."""
    if context.quick:
        return Missing("left out of quick runs")
    import torch

    torch._dynamo.reset()
    return attempt(lambda: make(torch.compile))


def with_our_compile(make: Callable[[Callable[[Any], Any]], Call]) -> Call | Missing:
    """`make(compile)`, where `compile` is tinygrad_cv.compile."""
    import tinygrad_cv as tg

    compile = getattr(tg, "compile", None)
    if compile is None:
        return Missing("this version has no tinygrad_cv.compile")
    return attempt(lambda: make(compile))


def jax_call(function: Callable[..., Any], *arguments: Any) -> Call:
    """A call of the compiled function on the arguments, on JAX's arrays, that waits for its result."""
    import jax

    compiled = jax.jit(function)
    placed = [jax.numpy.asarray(a) for a in arguments]
    return lambda: jax.block_until_ready(compiled(*placed))
