"""Laws of operators: those declared hold and are really compared; wrong ones fail by name, with their formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import registry
from tinygrad_cv.domain import NumpyDraw
from tinygrad_cv.extend import (
    Adjoint,
    Array,
    Batched,
    Elementwise,
    Homogeneous,
    Idempotent,
    Inverse,
    Involution,
    Law,
    Linear,
    PermutationEquivariant,
    Real,
    Symmetric,
    TranslationEquivariant,
    call,
    elementwise,
)
from tinygrad_cv.testing import OpCheckError, OpResult, Sample, check_op
from tinygrad_cv.testing.law_checks import check_law, check_laws, key

WITH_LAWS = [o for o in registry.operators(plugins=False) if o.laws]


def test_the_built_in_operators_declare_many_laws_of_every_kind() -> None:
    laws = [law for o in WITH_LAWS for law in o.laws]
    assert len(laws) >= 40
    kinds = {Linear, Adjoint, Homogeneous, Idempotent, PermutationEquivariant, TranslationEquivariant, Symmetric, Inverse, Involution,
             Batched}  # fmt: skip
    assert {type(law) for law in laws} == kinds
    assert all(law.formula for law in laws)


@pytest.mark.parametrize("operator", WITH_LAWS, ids=lambda o: o.name)
def test_declared_laws_hold_and_are_compared(operator: Any) -> None:
    result = OpResult(operator.name, operator.provider, 0)
    for seed in range(20):
        check_laws(Sample(operator, operator.domain(NumpyDraw(np.random.default_rng([seed, 0]))), seed), result)
    assert all(result.checks[key(law)] for law in operator.laws)


WRONG: list[tuple[str, Law]] = [
    ("exp", Linear("input")),
    ("add", Linear("input")),  # affine in one operand
    ("conv2d", Linear("input", "weight")),  # linear in each, not in both
    ("square", Homogeneous("input", degree=1)),
    ("abs", Homogeneous("input")),  # for positive factors only
    ("tanh", Idempotent("input")),
    ("exp", Involution("input")),
    ("sub", Symmetric("input", "other")),
    ("linalg.cross", Symmetric("input", "other")),
    ("exp", Inverse("input", of="log2")),
    ("cumsum", PermutationEquivariant("input", axis="dim")),
    ("sort", PermutationEquivariant("input", axis="dim")),
    ("unfold", Adjoint("input", of="unfold", by=lambda y, kernel_size: (y, kernel_size))),
    ("gather", Adjoint("input", of="scatter", by=lambda y, input, dim, index: (np.zeros(input.shape), dim, index, y))),
    ("avg_pool2d", TranslationEquivariant("input", axis=(-2, -1), step=1, when=lambda padding, stride: not np.any(padding))),
    ("softmax", TranslationEquivariant("input", axis=-1)),
    ("batch_norm_with_statistics", Batched("input", core=2)),
]


@pytest.mark.parametrize(("name", "law"), WRONG, ids=lambda v: repr(v) if isinstance(v, Law) else v)
def test_a_wrong_law_fails_with_its_formula(name: str, law: Law) -> None:
    operator = registry.get(name)

    def all_hold() -> None:
        for seed in range(20):
            check_law(law, Sample(operator, operator.domain(NumpyDraw(seed)), seed), OpResult(name, "", seed))

    with pytest.raises(AssertionError) as error:
        all_hold()
    assert str(error.value).startswith(f"the law {law!r} does not hold, {law.formula}: ")


def _scaled(declared: Any, *laws: Law, factor: float = 3.0) -> Any:
    @declared("scaled", domain=elementwise(Real()), formula="3 input", laws=laws)
    class scaled(Elementwise):
        """Three times the input."""

        def reference(input: Array) -> np.ndarray:
            return input * factor

        def grad_input(upstream: Any) -> Any:
            return upstream * factor

    return scaled


def test_check_op_tests_declared_laws_and_counts_them(declared: Any) -> None:
    result = check_op(_scaled(declared, Linear("input"), Homogeneous("input")), examples=10)
    assert result.checks["law Linear('input')"] == 10 and result.checks["law Homogeneous('input')"] == 20


def test_check_op_names_the_law_that_does_not_hold(declared: Any) -> None:
    operator = _scaled(declared, Linear("input"), Idempotent("input"))
    with pytest.raises(OpCheckError, match=r"scaled .*the law Idempotent\('input'\) does not hold, f\(f\(x\)\) = f\(x\): "):
        check_op(operator)


def test_a_law_that_is_never_compared_says_nothing_and_is_refused(declared: Any) -> None:
    operator = _scaled(declared, Idempotent("input", when=lambda input: input.size > 10**6))
    assert check_op(operator, examples=3).passed
    with pytest.raises(OpCheckError, match=r"Idempotent\('input'\) was never compared in 12 calls"):
        check_op(operator, examples=12)


def test_a_law_that_cannot_be_asked_names_what_is_missing(declared: Any) -> None:
    operator = _scaled(declared, Idempotent("input", when=lambda stride: stride == 1))
    with pytest.raises(OpCheckError, match=r"asks for 'stride', which scaled has not; there are input"):
        check_op(operator, examples=1)


def test_laws_of_ones_own(declared: Any) -> None:
    class Odd(Law):
        """f(-x) = -f(x)."""

        formula = "f(-x) = -f(x)"

        def check(self, trial: Any) -> None:
            trial.agree(trial.apply(input=-trial.values["input"]), [-v for v in trial.apply()])

    assert check_op(_scaled(declared, Odd("input")), examples=2).checks["law Odd('input')"] == 2
    with pytest.raises(AssertionError, match=r"the law Odd\('input'\) does not hold, f\(-x\) = -f\(x\)"):
        check_law(Odd("input"), Sample(registry.get("exp"), call(np.array([1.0]))), OpResult("exp", "", 0))


def test_wrong_declarations_are_refused_at_once(declared: Any) -> None:
    with pytest.raises(
        TypeError, match=r"'scaled': Linear\('weight'\) names no tensor parameter with 'weight'; they are input"
    ):
        _scaled(declared, Linear("weight"))
    with pytest.raises(TypeError, match=r"'scaled': laws must be of tinygrad_cv\.laws, got 'linear'"):
        _scaled(declared, "linear")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Linear: expected names of tensor parameters"):
        Linear()
    assert "scaled" not in {o.name for o in registry.operators()}


def test_a_mistake_that_values_alone_do_not_show_is_caught_by_the_adjoint() -> None:
    """gather's transpose adds where an index repeats; one that writes instead is right only for distinct indices."""
    operator = registry.get("gather")
    index = np.array([[0, 0, 2]])
    sample = Sample(operator, call(np.arange(3.0)[None], 1, index))
    adds = Adjoint("input", of="scatter_add", by=lambda y, input, dim, index: (np.zeros(input.shape), dim, index, y))
    writes = Adjoint("input", of="scatter", by=lambda y, input, dim, index: (np.zeros(input.shape), dim, index, y))
    check_law(adds, sample, OpResult("gather", "", 0))
    with pytest.raises(AssertionError, match=r"<f\(x\), y> = .*, <x, g\(y\)> = "):
        check_law(writes, Sample(operator, call(np.array([[1.0, 2.0, 3.0]]), 1, index)), OpResult("gather", "", 0))


def test_the_laws_are_in_the_signature_and_on_the_operator() -> None:
    assert [repr(law) for law in tg.ops.get("mul").laws] == [
        "Linear('input')",
        "Linear('other')",
        "Symmetric('input', 'other')",
    ]
