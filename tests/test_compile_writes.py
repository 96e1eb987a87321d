"""tg.compile: writes to views, to what has views and to gradients, regions that are recomputed, and layouts, are as without a plan."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn

Program = Callable[[], tuple[Callable[..., Any], list[tg.Tensor]]]  # a function of a (4, 3) tensor, and what it changes outside


def observed(program: Program, compiled: bool, calls: int = 7) -> tuple[list[np.ndarray], Any]:
    """All that calls on fresh data return and leave behind, and the function that was called."""
    rng = np.random.default_rng(3)
    tg.manual_seed(3)
    function, outside = program()
    called = tg.compile(function, fullgraph=True) if compiled else function
    seen = []
    for _ in range(calls):
        found = called(tg.from_numpy(rng.standard_normal((4, 3)).astype(np.float32)))
        for tensor in (*(found if isinstance(found, tuple) else (found,)), *outside):
            seen += [t.numpy(force=True).copy() for t in (tensor, tensor.grad) if t is not None]
    return seen, called


def agree(program: Program, ulps: int = 0) -> Any:
    """Asserts that the plan gives the same bits, or numbers up to `ulps` apart, relative to the largest of their array."""
    expected, _ = observed(program, False)
    got, called = observed(program, True)
    assert len(tg.compile.explain(called).plans) == 1
    assert len(expected) == len(got)
    for e, g in zip(expected, got, strict=True):
        if ulps:
            np.testing.assert_allclose(g, e, rtol=0, atol=ulps * np.finfo(np.float32).eps * float(np.abs(e).max()))
        else:
            assert e.tobytes() == g.tobytes()
    return called


# Writes ----------------------------------------------------------------------------------------------------------------


def _to_a_view() -> Any:
    def function(x: tg.Tensor) -> Any:
        h = x * 2
        rows = h[1:]
        rows[0] = 7
        rows.add_(x[1:])
        turned = h.t()
        h[0, 0] = 3
        turned.mul_(2)
        return h, rows * 1, turned * 1

    return function, []


def _to_a_base() -> Any:
    def function(x: tg.Tensor) -> Any:
        h = x * 2
        h.add_(1)
        row = h[1:][1]
        again = row.detach()
        h.mul_(x)
        return row * 1, again + 1, h

    return function, []


def _to_what_was_constant() -> Any:
    def function(x: tg.Tensor) -> Any:
        c = tg.zeros(3) + 1
        y = x + c
        c.add_(5)
        c[0] = 9
        return y * c

    return function, []


def _to_state() -> Any:
    state = tg.zeros(4, 3)

    def function(x: tg.Tensor) -> Any:
        rows, first = state[1:], state[0]
        before = rows * 3
        rows.add_(x[1:])
        state.mul_(0.5)
        first.add_(1)
        return before, rows * 2, first + 0

    return function, [state]


def _to_a_parameter() -> Any:
    weight = nn.Parameter(tg.ones(4, 3))

    def function(x: tg.Tensor) -> Any:
        with tg.no_grad():
            weight[0].zero_()
            weight[1:].add_(x[1:])
        assert weight.is_leaf and weight.requires_grad
        return weight * x

    return function, [weight]


def _with_gradients() -> Any:
    weight = nn.Parameter(tg.ones(4, 3))

    def function(x: tg.Tensor) -> Any:
        weight.grad = None
        h = x * weight
        rows = h[1:]
        rows.mul_(x[1:])
        h[0] = 0
        h.backward(x)
        return h.detach(), rows.detach()

    return function, [weight]


@pytest.mark.parametrize(
    "program", [_to_a_view, _to_a_base, _to_what_was_constant, _to_state, _to_a_parameter, _with_gradients]
)
def test_writes_give_the_same_bits(program: Program) -> None:
    agree(program)


def test_a_write_to_memory_that_a_tensor_from_outside_views_runs_as_it_is() -> None:
    state = tg.zeros(4, 3)
    row = state[1]

    def function(x: tg.Tensor) -> Any:
        before = row * 2
        state.add_(x)
        return before, row * 2

    compiled = tg.compile(function)
    with pytest.warns(RuntimeWarning, match="another tensor from outside is a view"):
        for call in range(5):
            before, after = compiled(tg.ones(4, 3))
            np.testing.assert_array_equal(before.numpy(), np.full(3, 2.0 * call))
            np.testing.assert_array_equal(after.numpy(), np.full(3, 2.0 * call + 2))


# Gradients -------------------------------------------------------------------------------------------------------------


def _filled_with_zeros(when: str) -> Program:
    def program() -> Any:
        weight = nn.Parameter(tg.ones(4, 3))
        optimizer = tg.optim.SGD([weight], lr=0.125, momentum=0.5)

        def function(x: tg.Tensor) -> Any:
            if when == "before":
                optimizer.zero_grad(set_to_none=False)
            elif weight.grad is not None and when == "halved":
                weight.grad.mul_(0.5)
            (weight * weight).backward(x)
            optimizer.step()
            if when == "after":
                optimizer.zero_grad(set_to_none=False)
            return x

        return function, [weight]

    return program


@pytest.mark.parametrize("when", ["before", "after", "halved"])
def test_gradients_that_are_kept_and_written_to_give_the_same_bits(when: str) -> None:
    agree(_filled_with_zeros(when))


# Recomputed regions ----------------------------------------------------------------------------------------------------


def _recomputed() -> Any:
    inner = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    dropout = nn.Dropout(0.25)
    optimizer = tg.optim.SGD(inner.parameters(), lr=0.05)

    def function(x: tg.Tensor) -> Any:
        optimizer.zero_grad()
        loss = (dropout(tg.autograd.checkpoint(inner, dropout(x))) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return function, [*inner.parameters(), *inner.buffers()]


def test_checkpointed_regions_are_recomputed_in_a_plan_with_the_same_random_numbers() -> None:
    agree(_recomputed, ulps=16)


def test_a_plan_recomputes_to_save_memory() -> None:
    def peak(checkpointed: bool) -> int:
        tg.manual_seed(0)
        weight = nn.Parameter(tg.ones(1))

        def region(x: tg.Tensor) -> tg.Tensor:
            for _ in range(6):
                x = (x * weight).cumsum(0)
            return x

        def function(x: tg.Tensor) -> Any:
            weight.grad = None
            for _ in range(4):
                x = tg.autograd.checkpoint(region, x) if checkpointed else region(x)
            x.sum().backward()
            return x.detach()

        compiled = tg.compile(function, fullgraph=True)
        for _ in range(3):
            compiled(tg.ones(1 << 15) / (1 << 15))
        return int(tg.compile.explain(compiled).plans[0].memory)

    assert peak(True) < 0.6 * peak(False)


# Layouts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", [lambda x: x.is_contiguous(), lambda x: x.stride(0) == 3, lambda x: x.data_ptr() > 0])
def test_python_that_asks_for_layouts_runs_as_it_is(question: Callable[[tg.Tensor], bool]) -> None:
    compiled = tg.compile(lambda x: x * 2 if question(x) else x * 3)
    with pytest.warns(RuntimeWarning, match="how a tensor lies in memory"):
        for x in (tg.ones(3, 3), tg.ones(3, 3), tg.ones(3, 3), tg.ones(3, 4)[:, :3], tg.ones(3, 3).t()):
            np.testing.assert_array_equal(compiled(x).numpy(), x.numpy() * (2 if question(x) else 3))


def test_what_only_the_garbage_collector_finds_dead_is_not_kept() -> None:
    def function(x: tg.Tensor) -> tg.Tensor:
        y = x * 2
        try:
            raise ValueError
        except ValueError as error:
            circle = error  # knows this frame, which knows it
        assert circle is not None
        return y + 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = tg.compile(function)
        for _ in range(4):
            np.testing.assert_array_equal(compiled(tg.ones(3)).numpy(), [3, 3, 3])
    assert len(tg.compile.explain(compiled).plans) == 1
