"""`tg.linalg`: the operators whose registered name begins with "linalg.", under their own names (`tg.linalg.norm`, ...)."""

from __future__ import annotations

from typing import Any

from .ops.linalg import LinAlgError

__all__ = ["LinAlgError"]


def __getattr__(name: str) -> Any:
    from .registry import find

    operator = None if name.startswith("_") else find(f"linalg.{name}")
    if operator is None:
        raise AttributeError(f"module 'tinygrad_cv.linalg' has no attribute {name!r}; it has {', '.join(__dir__())}")
    return operator.function


def __dir__() -> list[str]:
    from .registry import operators

    return sorted(
        {*__all__, *(o.name.removeprefix("linalg.") for o in operators() if o.name.startswith("linalg.") and not o.internal)}
    )
