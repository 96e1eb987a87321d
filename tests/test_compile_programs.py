"""Random programs: a plan gives the values, gradients and second derivatives of the function it was made of."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_cv as tg
from tinygrad_cv.testing import Program, programs
from tinygrad_cv.testing.program_runs import Expected, Runner, references

# Operators whose kernels other tests compile anyway; programs of all operators are run by benchmarks/programs.py.
_OPERATORS = (
    "add", "amax", "cat", "clone", "cumsum", "div", "exp", "flip", "getitem", "index_select", "layer_norm", "matmul", "maximum", "mean",
    "mul", "neg", "permute", "relu", "reshape", "sigmoid", "softmax", "sub", "sum", "tanh", "transpose", "where",
)  # fmt: skip


def plan_of(program: Program, order: int, arrays: Sequence[Sequence[np.ndarray]]) -> tg.compile:
    """Calls a program under tg.compile on several inputs in turn; asserts what each gives. Returns the compiled function."""
    runner = Runner(program, order)
    count = len(program.inputs)

    def function(*given: tg.Tensor) -> list[tg.Tensor]:
        outputs, first, second = runner.call(given[:count], given[count:], tg)
        return [t.detach() for t in (*outputs, *first, *second) if isinstance(t, tg.Tensor)]

    compiled = tg.compile(function)
    for inputs in arrays:
        made = [tg.tensor(a, requires_grad=w) for a, w in zip(inputs, program.differentiable, strict=True)]
        weights = [tg.tensor(w.astype(np.float32)) for w in runner.weights]
        expected = function(*(t.detach().requires_grad_(t.requires_grad) for t in made), *weights)
        got = compiled(*made, *weights)
        assert len(got) == len(expected)
        for e, g in zip(expected, got, strict=True):
            scale = max(1.0, float(np.abs(e.numpy()).max(initial=0)))
            np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e-4, atol=5e-5 * scale)
    return compiled


def check_plan(program: Program, order: int) -> None:
    """Four calls on two sets of inputs: two are recorded, two run the plan."""
    if Expected(Runner(program, order), np.float32).problem:
        return  # at a kink or in cancellation, where two ways to compute may differ
    rng = np.random.default_rng(program.seed)
    single = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in program.inputs]
    changed = [np.asarray(a + rng.uniform(0, 1e-3, a.shape), np.float32) if a.dtype.kind == "f" else a for a in single]
    writes = any(step.inplace for step in program.steps)
    with warnings.catch_warnings():
        # Some writes in place are not recorded: such a function says so, and runs as it is.
        warnings.filterwarnings("ignore" if writes else "error", "compile: .* runs as it is", RuntimeWarning)
        compiled = plan_of(program, order, [single, changed, single, changed])
    assert writes or tg.compile.explain(compiled).plans


@settings(max_examples=4)
@given(programs(_OPERATORS, most=4), st.integers(0, 2))
def test_random_programs_on_kernels(program: Program, order: int) -> None:
    check_plan(program, order)


@given(programs(_OPERATORS), st.integers(0, 2))
def test_random_programs_on_references(program: Program, order: int) -> None:
    with references():
        check_plan(program, order)


@pytest.mark.thorough
@settings(max_examples=100)
@given(programs(most=6))
def test_plans_of_all_operators_on_references(program: Program) -> None:
    from tinygrad_cv.testing import compare

    found = compare(program, ["compiled"], plan_kernels=False)
    assert found.passed, found.failed
