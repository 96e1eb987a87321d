"""Random programs: what they are made of, that they run alike everywhere, and that a wrong operator is found and made small."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import tinygrad_cv as tg
from tinygrad_cv import registry
from tinygrad_cv.domain import NumpyDraw
from tinygrad_cv.testing import Program, compare, minimize, programs
from tinygrad_cv.testing.program import Ref, Step
from tinygrad_cv.testing.program_draw import draw_program, usable
from tinygrad_cv.testing.program_runs import Expected, Mismatch, Results, Runner, references, values_of

_NUMPY_ONLY = ["direct", "compiled"]


def by_hand() -> Program:
    """y = tanh(x0 * x1) + x0; y[::-1] *= 2."""
    x0, x1 = np.array([0.5, -1.0]), np.array([2.0, 0.25])
    steps = (
        Step("mul", (Ref(0), Ref(1))),
        Step("tanh", (Ref(2),)),
        Step("add", (Ref(3), Ref(0))),
        Step("getitem", (Ref(4), (slice(0, 1),))),
        Step("mul", (Ref(5), 2.0), inplace=True),
    )
    return Program((x0, x1), (True, True), steps)


def test_values_and_derivatives_of_a_known_program() -> None:
    program = by_hand()
    assert program.outputs() == [4, 5, 6]  # views and writes into them do not consume
    runner = Runner(program)
    got = runner.eager()
    t = np.tanh([1.0, -0.25])
    y = np.array([2 * (t[0] + 0.5), t[1] - 1.0])
    np.testing.assert_allclose(got.values[0], y)
    np.testing.assert_allclose(got.values[1], y[:1])
    w = [np.asarray(w) for w in runner.weights]
    upstream = np.array([2 * (w[0][0] + w[1][0] + w[2][0]), w[0][1]])
    np.testing.assert_allclose(got.first[0], upstream * ((1 - t**2) * program.inputs[1] + 1))
    np.testing.assert_allclose(got.first[1], upstream * (1 - t**2) * program.inputs[0])
    x0, x1, (m0, m1) = *program.inputs, w[3:]
    s, d = 1 - t**2, -2 * t * (1 - t**2)
    np.testing.assert_allclose(got.second[0], upstream * (m0 * d * x1**2 + m1 * (s + d * x0 * x1)))
    np.testing.assert_allclose(got.second[1], upstream * (m1 * d * x0**2 + m0 * (s + d * x0 * x1)))


def test_every_way_agrees_on_a_known_program() -> None:
    ways = ["direct", "eager", "compiled", "eager float32", "compiled float32"]
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
        ways.append("torch")
    found = compare(by_hand(), ways, plan_kernels=False)
    assert found.passed and not found.refused
    assert found.compared == {w: 3 if w == "direct" else 7 for w in ways}


@settings(max_examples=15)
@given(programs(most=5))
def test_references_directly_and_in_plans_agree(program: Program) -> None:
    found = compare(program, _NUMPY_ONLY, plan_kernels=False)
    assert found.passed, f"{found.failed}\n{program}"


@pytest.mark.thorough
@given(programs())
def test_every_way_agrees(program: Program) -> None:
    found = compare(program, plan_kernels=False)
    assert found.passed, f"{found.failed}\n{program}"


def test_programs_reach_every_operator_and_share_nodes() -> None:
    reached: set[str] = set()
    shared = written = viewed = 0
    for seed in range(150):
        program = draw_program(NumpyDraw(seed), most=6)
        reached.update(program.operators())
        used = [i for step in program.steps for i in step.references()]
        shared += len(used) > len(set(used))
        written += any(s.inplace for s in program.steps)
        viewed += any(registry.get(s.operator).view for s in program.steps)
    assert shared > 40 and written > 5 and viewed > 40
    everything = {o.name for o in registry.operators() if usable(o)}
    assert len(reached) > 0.6 * len(everything)
    alone = registry.get("logcumsumexp")
    assert "logcumsumexp" in draw_program(NumpyDraw(0), [alone], 1).operators()


def test_the_same_seed_gives_the_same_program() -> None:
    assert draw_program(NumpyDraw(5)).code() == draw_program(NumpyDraw(5)).code()


def test_a_program_prints_as_python_that_runs() -> None:
    program = by_hand()
    text = program.code()
    assert "v2 = tg.mul(x0, x1)" in text and "v6 = tg.mul_(v5, 2.0)" in text
    out = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
    assert "tensor" in out
    for seed in range(12):
        drawn = draw_program(NumpyDraw(seed))
        space: dict[str, Any] = {}
        with contextlib.redirect_stdout(io.StringIO()), references():
            exec(compile(drawn.code(), f"<program {seed}>", "exec"), space)
        expected = Runner(drawn)
        with references():
            results = expected.eager()
        for got, value in zip(space["outputs"], results.values, strict=True):
            np.testing.assert_array_equal(got.detach().numpy() if isinstance(got, tg.Tensor) else got, value)
        if expected.order == 2 and results.second and any(g is not None for g in space.get("second", ())):
            for g, value in zip(space["second"], results.second, strict=True):
                np.testing.assert_allclose(0.0 if g is None else g.numpy(), value, rtol=1e-9, atol=1e-9)


# What is found ------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def wrong_rule(name: str, position: int, factor: float) -> Iterator[None]:
    """The operator's gradient off by a factor."""
    operator = registry.get(name)
    rule, getters = operator.rules[position]
    operator.rules[position] = (lambda *given: rule(*given) * factor, getters)
    operator.forget_rules()
    try:
        yield
    finally:
        operator.rules[position] = (rule, getters)
        operator.forget_rules()


def test_a_wrong_rule_is_found_and_made_small() -> None:
    pytest.importorskip("torch")
    names = ["tanh", "mul", "sum", "reshape", "sin", "cat", "relu"]

    def fails(program: Program) -> bool:
        return "torch" in compare(program, ["torch"]).failed

    with wrong_rule("sin", 0, 1.001), references():
        seed = next(s for s in range(40) if fails(draw_program(NumpyDraw(s), names)))
        smallest = minimize(draw_program(NumpyDraw(seed), names), fails)
        assert [s.operator for s in smallest.steps] == ["sin"]
        assert "first derivative" in compare(smallest, ["torch"]).failed["torch"]
    assert not fails(smallest)
    with pytest.raises(ValueError, match="does not fail"):
        minimize(smallest, fails)


def test_hypothesis_shrinks_a_program() -> None:
    smallest = find(
        programs(["exp", "flip", "mul"]),
        lambda p: "flip" in p.operators(),
        settings=settings(max_examples=200, deadline=None, database=None, derandomize=True),
    )
    assert smallest.operators()[-1] == "flip" and len(smallest.steps) <= 2


def test_a_difference_above_rounding_is_reported_and_rounding_is_not() -> None:
    runner = Runner(by_hand())
    expected = Expected(runner)
    assert not expected.problem
    got = runner.eager()
    assert expected.check("eager", got) == 7
    nearly = Results([v * (1 + 1e-15) for v in got.values], got.first, got.second)
    expected.check("eager", nearly)
    for wrong in (
        Results([v * (1 + 1e-9) for v in got.values], got.first, got.second),
        got._replace(first=[g * 1.001 for g in got.first]),
        got._replace(second=[-g for g in got.second]),
        got._replace(values=[v[..., None] for v in got.values]),
        got._replace(values=[v.astype(int) for v in got.values]),
        got._replace(first=got.first[:1]),
    ):
        with pytest.raises(Mismatch, match=r"^eager"):
            expected.check("eager", wrong)


@pytest.mark.parametrize(
    ("steps", "arrays"),
    [
        (
            (
                Step("sin", (Ref(0),)),
                Step("square", (Ref(1),)),
                Step("cos", (Ref(0),)),
                Step("square", (Ref(3),)),
                Step("add", (Ref(2), Ref(4))),
                Step("sub", (Ref(5), 1.0)),
                Step("add", (Ref(6), 1e-17)),
                Step("sign", (Ref(7),)),
            ),
            [np.array([0.3, 0.7, 1.1, 2.0])],
        ),
        ((Step("sin", (Ref(0),)), Step("argmax", (Ref(1),))), [np.array([1.0, 1.0])]),
        ((Step("expand", (Ref(0), (3,))), Step("topk", (Ref(1), 1), {}, 2)), [np.array(0.5)]),
        ((Step("mul", (Ref(0), 1e12)), Step("sin", (Ref(1),))), [np.array([1.0])]),
        ((Step("reciprocal", (Ref(0),)),), [np.array([0.0])]),
    ],
    ids=["sign of cancellation", "tie", "tie of one value", "large amplification", "infinite"],
)
def test_programs_without_a_definite_answer_are_refused(steps: tuple[Step, ...], arrays: list[np.ndarray]) -> None:
    found = compare(Program(tuple(arrays), (True,), steps), ["eager"])
    assert found.passed and not found.compared and "reference in float64" in found.refused


def test_compare_names_the_ways_there_are() -> None:
    with pytest.raises(ValueError, match="no way to run a program is called abacus; there are direct, eager"):
        compare(by_hand(), ["abacus"])


@given(st.integers(0, 10_000))
@settings(max_examples=10)
def test_references_compute_what_disabled_kernels_compute(seed: int) -> None:
    program = draw_program(NumpyDraw(seed), most=3)
    inputs = lambda: [tg.tensor(a) for a in program.inputs]  # noqa: E731
    tg.manual_seed(1)
    with references():
        assert not tg.kernels.enabled()
        mine = values_of(program, inputs())
    tg.manual_seed(1)
    with tg.kernels.disabled():
        theirs = values_of(program, inputs())
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(
            a.numpy() if isinstance(a, tg.Tensor) else a, b.numpy() if isinstance(b, tg.Tensor) else b
        )
    assert tg.kernels.enabled()
