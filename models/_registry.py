"""Models by name, with what the command line needs to know to train one."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelInfo:
    """A named architecture.

    input_shape: (C, H, W) of one example. loss: the nn.functional loss it is trained with. recipe: defaults of `train` (epochs,
    batch_size, optimizer, learning rate, ...), as measured to work or, for training that takes days, as its paper gives them; those
    of the command where it is empty.
    """

    name: str
    factory: Callable[..., Any]
    input_shape: tuple[int, int, int]
    source: str
    loss: str = "cross_entropy"
    recipe: dict[str, Any] = field(default_factory=dict)


_models: dict[str, ModelInfo] = {}


def register(
    name: str, *, input_shape: tuple[int, int, int], source: str, loss: str = "cross_entropy", **recipe: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated factory as model `name`. ValueError if the name is taken."""

    def wrap(factory: Callable[..., Any]) -> Callable[..., Any]:
        if name in _models:
            raise ValueError(f"a model called {name!r} is already registered")
        _models[name] = ModelInfo(name, factory, input_shape, source, loss, recipe)
        return factory

    return wrap


def info(name: str) -> ModelInfo:
    """What is known of model `name`; ValueError with near names otherwise."""
    if name not in _models:
        near = difflib.get_close_matches(name, _models, 3) or sorted(_models)
        raise ValueError(f"no model is called {name!r}; did you mean {', '.join(near)}?")
    return _models[name]


def create(name: str, **options: Any) -> Any:
    """A new, randomly initialised model by name; `options` go to its factory."""
    return info(name).factory(**options)


def list_models() -> list[str]:
    """The names of all models."""
    return sorted(_models)
