"""The built-in operators: the first plugin, registered through the same door as anyone's.

One module for each family; an operator is declared in one place (see `tinygrad_cv.registry`). cpu/ holds the Numba kernels,
imported at an operator's first use. Modules here import `tinygrad_cv.extend` and NumPy; inside rules and compositions they use
Tensor methods and `tg.<operator>`.
"""

from __future__ import annotations

from typing import Any

from ..registry import Operator, discover, get, operators, unregister
from . import (
    activation,
    arithmetic,
    arrange,
    average_pooling,
    axes,
    comparison,
    contraction,
    convolution,
    diagonals,
    distance,
    division,
    embedding,
    extrema,
    gathering,
    grid,
    indexing,
    interpolation,
    likelihood_loss,
    linalg,
    linear,
    loss,
    margin_loss,
    matrix,
    normalization,
    norms,
    padding,
    patches,
    pointwise,
    pooling,
    products,
    reduction,
    regularization,
    scan,
    selection,
    shape,
    smooth,
    softmax,
    sorting,
    standardization,
    statistics,
    tiling,
    transposed_convolution,
    trigonometry,
    unpooling,
    value_loss,
    vector_loss,
    vision,
)

__all__ = ["Operator", "discover", "get", "list_ops", "unregister"]


def list_ops() -> list[dict[str, Any]]:
    """Every registered operator, built-in and plugin: name, provider, formula, signature, devices with kernels, kind."""
    return [
        {
            "name": o.name,
            "provider": o.provider,
            "formula": o.formula,
            "signature": f"{o.name}{o.signature}",
            "devices": o.devices(),
            "kind": "elementwise" if o.elementwise else "composite" if o.composite else "view" if o.view else "structured",
            "rule": "composed" if o.composite else "backward" if o.differentiable else "none (not differentiable)",
        }
        for o in operators()
    ]


def __getattr__(name: str) -> Any:
    from ..registry import find

    operator = find(name)
    if operator is None:
        raise AttributeError(f"no operator is called {name!r}")
    return operator.function
