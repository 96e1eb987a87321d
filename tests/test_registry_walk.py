"""Every registered operator, whoever provides it: values, layouts, kernels, derivatives, kinks, in-place forms, errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tinygrad_cv import registry
from tinygrad_cv.testing import OpResult, op_test

OPERATORS = [operator.name for operator in registry.operators()]


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name: str, record_property: Callable[[str, object], None]) -> None:
    """What `tinygrad_cv.testing` checks of an operator holds on every call Hypothesis draws from its domain."""
    operator = registry.get(name)
    result = OpResult(name, operator.provider, 0)
    op_test(operator, result)()
    assert result.examples > 0
    assert result.checks["value"] == 2 * result.examples, "every example is compared in float32 and float64"
    record_property("operators", 1)
    record_property("examples", result.examples)
    record_property("comparisons", sum(result.checks.values()))
