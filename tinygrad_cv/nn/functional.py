"""Every operator of the registry as a function, under PyTorch's name for the module: `import tinygrad_cv.nn.functional as F`.

Built-in and plugin operators alike; the list is `dir(tinygrad_cv.nn.functional)`, their text `help(F.conv2d)`.
"""

from __future__ import annotations

from typing import Any

from ..registry import Operator, find, on_registration, operators

_kept: set[str] = set()  # built-in operators already looked up, kept as plain attributes since layers ask at every call


def _forget(operator: Operator) -> None:
    if operator.name in _kept:
        _kept.discard(operator.name)
        del globals()[operator.name]


on_registration(_forget)


def __getattr__(name: str) -> Any:
    operator = find(name) if not name.startswith("_") else None
    if operator is not None:
        if operator.provider == __name__.split(".")[0]:
            globals()[name] = operator.function
            _kept.add(name)
        return operator.function
    if name.endswith("_") and not name.startswith("_") and (operator := find(name[:-1])) is not None and operator.has_inplace:
        return operator.inplace
    raise AttributeError(f"module {__name__!r} has no function {name!r}: no operator of that name is registered")


def __dir__() -> list[str]:
    names = {(n, o.has_inplace) for o in operators() if not o.internal for n in (o.name, *o.aliases) if "." not in n}
    return sorted({*(name for name, _ in names), *(name + "_" for name, has_inplace in names if has_inplace)})
