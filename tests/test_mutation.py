"""The checks of the test kit notice wrong backward rules, whatever the seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import registry
from tinygrad_cv.extend import Array, Elementwise, Real, elementwise
from tinygrad_cv.testing import OpCheckError, check_op
from tinygrad_cv.testing.deliver import write_between
from tinygrad_cv.testing.mutants import mutants_of, planted
from tinygrad_cv.testing.mutation import mutate, mutate_operator, report, score, try_mutant


def _outcomes(name: str, **options: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for outcome in mutate_operator(name, **options):
        found.setdefault(outcome.status, []).append(f"{outcome.kind}: {outcome.place}")
    return found


@pytest.mark.parametrize(
    "name", ["mul", "softmax", "conv1d", "max_pool1d_with_indices", "batch_norm_with_statistics", "gather"]
)
def test_every_mutant_of_a_family_dies(name: str) -> None:
    found = _outcomes(name)
    assert len(found["killed"]) >= 10
    assert "survived" not in found, found["survived"]


def test_an_operator_is_right_again_afterwards() -> None:
    operator = registry.get("tanh")
    before = dict(operator.rules)
    with pytest.raises(ZeroDivisionError), mutants_of(operator)[0].installed():
        assert operator.rules != before
        raise ZeroDivisionError
    assert operator.rules == before
    check_op(operator, examples=2)


def test_a_hole_in_the_domain_is_reported(declared: Any) -> None:
    """Only zeros are drawn, where sin and its argument have one derivative: the cosine in the rule is never needed."""

    @declared("hollow", domain=elementwise(Real(0, 0)), formula="sin(input)")
    class hollow(Elementwise):
        """sin(input)."""

        def reference(input: Array) -> np.ndarray:
            return np.sin(input)

        def grad_input(upstream: Any, input: Any) -> Any:
            return upstream * tg.cos(input * 1.5 / 1.5)

    found = _outcomes("hollow", examples=3)
    assert any("1.5" in place for place in found["equivalent"]), "what the domain cannot tell apart counts as the same"


def test_a_check_that_misses_is_reported(declared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinygrad_cv.testing.mutation.check_gradient", lambda sample, result: None)
    monkeypatch.setattr("tinygrad_cv.testing.mutation.check_op", lambda *args, **kwargs: None)
    found = mutate_operator("exp", examples=1)
    assert score(found) < 0.5
    assert "Survivors:" in report(found) and "`exp`: result doubled" in report(found)


def test_an_operator_that_fails_by_itself_is_not_mutated(declared: Any) -> None:
    @declared("askew", domain=elementwise(Real()), formula="input ** 2")
    class askew(Elementwise):
        """The square, with the derivative of another function."""

        def reference(input: Array) -> np.ndarray:
            return input * input

        def grad_input(upstream: Any, input: Any) -> Any:
            return upstream * input

    with pytest.raises(OpCheckError, match="askew"):
        mutate_operator("askew")


def test_a_rule_that_is_wrong_at_ties_alone_is_noticed() -> None:
    mutant = planted(
        registry.get("maximum"), "input", "ties", lambda upstream, input, other: tg.where(input < other, 0.0, upstream)
    )
    assert try_mutant(mutant).status == "killed"


def test_a_rule_that_forgets_that_a_result_may_be_unused_is_noticed() -> None:
    def rule(upstreams: Any, A: Any) -> Any:
        of_sign, of_logarithm = upstreams
        weight = of_logarithm if of_logarithm is not None else of_sign * 0.01
        return weight.unsqueeze(-1).unsqueeze(-1) * tg.linalg.inv(A).mT

    assert try_mutant(planted(registry.get("linalg.slogdet"), "A", "unused result", rule)).status == "killed"


def test_zero_gradients_have_counted_mutants() -> None:
    found = _outcomes("ceil")
    assert len(found["killed"]) >= 10
    assert "survived" not in found


def test_equivalent_mutants_say_why() -> None:
    outcomes = [o for o in mutate_operator("ceil") if o.status == "equivalent"]
    assert {o.reason for o in outcomes} == {"the gradient is 0"}


def test_a_report_goes_between_its_marks(tmp_path: Any) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- b -->\nafter\n")
    write_between(page, ("<!-- a -->", "<!-- b -->"), "new")
    assert page.read_text() == "before\n<!-- a -->\n\nnew\n\n<!-- b -->\nafter\n"
    with pytest.raises(ValueError, match="expected the lines"):
        write_between(page, ("<!-- c -->", "<!-- d -->"), "new")


def test_unknown_names_are_refused_before_any_work() -> None:
    with pytest.raises(KeyError, match="softmax"):
        mutate(["sofmax"])


# Bugs that libraries have had, each planted in an operator by hand -------------------------------------------------------------------


def _without_last_group(
    upstream: Any, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Any:
    whole = tg.conv_weight_grad(upstream, input, kernel_size, stride, padding, dilation, groups)
    keep = np.ones((upstream.shape[-len(kernel_size) - 1], *[1] * (len(kernel_size) + 1)))
    keep[-max(1, len(keep) // groups) :] = 0
    return whole * tg.tensor(keep, dtype=whole.dtype)


def _conv_weight(ctx: Any, upstream: Any, input: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
    return _without_last_group(upstream, input, ctx.input_shapes[1][2:], stride, padding, dilation, groups)


def _scaled_at(gradient: Any, *place: int) -> Any:
    factor = np.ones(gradient.shape)
    factor[place] = 1.001
    return gradient * tg.tensor(factor, dtype=gradient.dtype)


def _flipped(upstream: Any) -> Any:
    return upstream.flip(tuple(range(upstream.dim()))) if upstream.dim() else -upstream


PLANTED: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "sign": ("cos", "input", lambda upstream, input: upstream * input.sin()),
    "missing sum over the batch": ("linear", "bias", lambda upstream: upstream.reshape(-1, upstream.shape[-1])[0]),
    "swapped axes": ("cumsum", "input", lambda upstream: upstream.flip(0).cumsum(0).flip(0) if upstream.dim() else upstream),
    "dropped group": ("conv2d", "weight", _conv_weight),
    "reversed cotangent": ("exp", "input", lambda upstream, out: _flipped(upstream) * out),
    "ignored cotangent": ("tanh", "input", lambda upstream, out: (1 - out * out) * tg.ones_like(upstream)),
    "untransposed matmul": (
        "mm",
        "input",
        lambda upstream, mat2: upstream @ (mat2 if mat2.shape[0] == mat2.shape[1] else mat2.mT * 1.01),
    ),
    "window shifted by one": (
        "max_pool1d_with_indices",
        "input",
        lambda ctx, upstream, indices: tg.max_pool_input_grad(upstream, indices, ctx.input_shapes[0][-1:]).roll(1, -1),
    ),
    "dropped term": ("softmax", "input", lambda upstream, out: upstream * out),
    "missing factor": ("square", "input", lambda upstream, input: upstream * input),
    "exchanged branches": ("maximum", "input", lambda upstream, input, other: tg.where(input > other, 0.0, upstream)),
    "repeated indices written, not added": (
        "gather",
        "input",
        lambda ctx, upstream, index, dim: tg.zeros(ctx.input_shapes[0], dtype=upstream.dtype).scatter(dim, index, upstream),
    ),
    "detached in the second derivative": ("sigmoid", "input", lambda upstream, out: upstream * (out * (1 - out)).detach()),
    "one element 0.1 % off": ("bmm", "mat2", lambda upstream, input: _scaled_at(input.mT @ upstream, -1, -1, -1)),
    "one row 0.1 % off": ("linear", "weight", lambda upstream, input: _scaled_at(tg.linear_weight_grad(input, upstream), -1)),
}


@pytest.mark.parametrize("bug", PLANTED)
@pytest.mark.parametrize(
    "seeds", [range(3), pytest.param(range(100), marks=pytest.mark.thorough)], ids=["3 seeds", "100 seeds"]
)
def test_planted_bugs_are_caught_in_every_seed(bug: str, seeds: range) -> None:
    name, parameter, rule = PLANTED[bug]
    mutant = planted(registry.get(name), parameter, bug, rule)
    missed = [seed for seed in seeds if (outcome := try_mutant(mutant, seed)).status not in ("killed", "raised")]
    assert not missed, f"{bug}: {outcome}"
