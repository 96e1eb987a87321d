"""Calling a module only to look at it: what the call moves is put back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tinygrad_cv as tg
from tinygrad_cv import Tensor, nn

_TOO_FEW = "expected more than one value for each channel when training"  # what batch norm says of a batch of one


@contextmanager
def undisturbed(target: Callable[..., Any]) -> Iterator[None]:
    """Inside the block `target` may be called: afterwards, also after an error, buffers and random numbers are as they were.

    The buffers are those of `target` where it is a module, and of the modules that a function or method refers to. In training mode
    batch norm moves its running statistics and dropout draws a mask; a picture should do neither. Where batch norm refuses a batch
    of one, its ValueError says that `.eval()` helps.
    """
    kept = [(module, _buffers(module)) for module in _modules(target)]
    random = tg.get_rng_state()
    try:
        yield
    except ValueError as error:
        if _TOO_FEW not in str(error):
            raise
        raise ValueError(
            f"{error}. The module is in training mode: call .eval() on it first to draw it with its running statistics, or give "
            "a batch of two or more"
        ) from None
    finally:
        tg.set_rng_state(random)
        for module, buffers in kept:
            _put_back(module, buffers)


def _modules(target: Any) -> list[nn.Module]:
    """A module itself; for a function or method the modules that it is bound to or names, each once."""
    if isinstance(target, nn.Module):
        return [target]
    found = [getattr(target, "__self__", None)]
    function = inspect.unwrap(getattr(target, "__func__", target))
    if inspect.isfunction(function):
        try:
            named = inspect.getclosurevars(function)
        except (TypeError, ValueError):  # a variable that has no value yet
            return []
        found += [*named.nonlocals.values(), *named.globals.values(), *(function.__defaults__ or ())]
    return list({id(value): value for value in found if isinstance(value, nn.Module)}.values())


def _buffers(module: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """By name: each buffer, and a copy of its values."""
    with tg.no_grad():
        return {name: (buffer, buffer.detach().clone()) for name, buffer in module.named_buffers()}


def _put_back(module: nn.Module, buffers: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Values back into the buffers that moved, buffers back where they were. What did not move is not written: graphs may hold it."""
    now = dict(module.named_buffers())
    with tg.no_grad():
        for name, (buffer, values) in buffers.items():
            if buffer.numpy().tobytes() != values.numpy().tobytes():
                buffer.copy_(values)
            if now.get(name) is not buffer:
                parent, _, attribute = name.rpartition(".")
                setattr(module.get_submodule(parent), attribute, buffer)


__all__ = ["undisturbed"]
