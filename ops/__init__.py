"""The built-in operators: the first plugin, registered through the same door as anyone's.

One module for each family; an operator is declared in one place (see `tinygrad_cv.registry`). cpu/ holds the Numba kernels,
imported at an operator's first use. Modules here import `tinygrad_cv.extend` and NumPy; inside rules and compositions they use
Tensor methods and `tg.<operator>`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
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


def list_ops(check: int = 0, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every registered operator, built-in and plugin, with what its declaration says.

    name, its aliases, provider, formula, signature; devices with kernels; kind; rule; internal: made for other operators' rules and
    compositions; domain: what it is tested on, in words; reference: where it is defined. test: what its last check in this process
    found (by `check_op` or `op_test`, see `tinygrad_cv.testing`), or "not run".
    check: draw so many examples of each and test it now. names: only these operators; KeyError for one that there is not.
    """

    from ..domain import describe
    from ..stubs import parameters

    def tested(operator: Operator) -> str:
        testing: Any = sys.modules.get(f"{__package__.rpartition('.')[0]}.testing")
        if check:
            from .. import testing

            testing.check_op(operator, examples=check, raise_exception=False)
        result = testing.last_result(operator) if testing else None
        if result is None:
            return "not run"
        if not result.passed:
            return f"failed: {result.failure}"
        return f"ok: {result.examples} examples, {sum(result.checks.values())} comparisons"

    return [
        {
            "name": o.name,
            "aliases": o.aliases,
            "provider": o.provider,
            "formula": o.formula,
            "signature": f"{o.name}({parameters(o)})",
            "devices": o.devices(),
            "kind": "elementwise" if o.elementwise else "composite" if o.composite else "view" if o.view else "structured",
            "rule": "composed" if o.composite else "backward" if o.differentiable else "none (not differentiable)",
            "internal": o.internal,
            "domain": describe(o.domain, o.signature),
            "reference": f"{o.reference.__module__}.{o.reference.__qualname__}",
            "test": tested(o),
        }
        for o in ([get(name) for name in names] or operators())
    ]


def __getattr__(name: str) -> Any:
    from ..registry import find

    operator = find(name)
    if operator is None:
        raise AttributeError(f"no operator is called {name!r}")
    return operator.function


def __dir__() -> list[str]:
    return sorted({*globals(), *(n for o in operators() if not o.internal for n in (o.name, *o.aliases) if "." not in n)})
