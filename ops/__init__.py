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
    scattering,
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


def list_ops(check: int = 0) -> list[dict[str, Any]]:
    """Every registered operator, built-in and plugin, with what its declaration says.

    name, provider, formula, signature; devices with kernels; kind; rule; internal: made for other operators' rules and compositions;
    domain and reference: where they are defined.
    check: draw so many examples of each and test it (see `tinygrad_cv.testing`); `test` is then the result, otherwise "not run".
    """

    from ..stubs import parameters

    def tested(operator: Operator) -> str:
        if not check:
            return "not run"
        from ..testing import OpCheckError, check_op

        try:
            result = check_op(operator, examples=check)
        except OpCheckError as error:
            return f"failed: {error}"
        return f"ok: {result.examples} examples, {sum(result.checks.values())} comparisons"

    return [
        {
            "name": o.name,
            "provider": o.provider,
            "formula": o.formula,
            "signature": f"{o.name}({parameters(o)})",
            "devices": o.devices(),
            "kind": "elementwise" if o.elementwise else "composite" if o.composite else "view" if o.view else "structured",
            "rule": "composed" if o.composite else "backward" if o.differentiable else "none (not differentiable)",
            "internal": o.internal,
            "domain": f"{o.domain.__module__}.{o.domain.__qualname__}",
            "reference": f"{o.reference.__module__}.{o.reference.__qualname__}",
            "test": tested(o),
        }
        for o in operators()
    ]


def __getattr__(name: str) -> Any:
    from ..registry import find

    operator = find(name)
    if operator is None:
        raise AttributeError(f"no operator is called {name!r}")
    return operator.function


def __dir__() -> list[str]:
    return sorted({*globals(), *(o.name for o in operators() if "." not in o.name and not o.internal)})
