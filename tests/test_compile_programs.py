"""Random programs: a plan gives the values, gradients and second derivatives of the function it was made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_cv as tg

_ROWS, _COLUMNS = 4, 6
_UNARY: list[Callable[[Any], Any]] = [
    tg.tanh, tg.sigmoid, lambda x: tg.exp(-x * x), lambda x: x * 0.5 + 1.0, tg.relu, lambda x: tg.softmax(x, 1), lambda x: -x,
    lambda x: x.T.reshape(_ROWS, _COLUMNS), lambda x: x - x.mean(1, keepdim=True), lambda x: x * x.sum(0),
    lambda x: tg.cat([x[:, 3:], x[:, :3]], 1), lambda x: x.clone().mul_(0.5), lambda x: x[[3, 1, 1, 0]],
    lambda x: tg.layer_norm(x, (_COLUMNS,)), lambda x: (x @ x.T @ x) * 0.1, lambda x: x.flip(1), lambda x: x.detach() * 0.3 + x,
    lambda x: tg.cumsum(x, 1) * 0.3, lambda x: x.amax(1, keepdim=True) + x,
]  # fmt: skip
_BINARY: list[Callable[[Any, Any], Any]] = [
    lambda x, y: x + y, lambda x, y: x * y, lambda x, y: x - 2 * y, tg.maximum, lambda x, y: tg.where(x > y, x, y * 0.5),
    lambda x, y: x / (1 + y * y), lambda x, y: (x @ y.T) @ y * 0.1, lambda x, y: x + y[:, :1], lambda x, y: x * y.mean(),
]  # fmt: skip

_step = st.tuples(st.integers(0, len(_UNARY) + len(_BINARY) - 1), st.integers(0, 30), st.integers(0, 30))


def _function(steps: list[tuple[int, int, int]], order: int) -> Callable[..., Any]:
    """The program as a function of two tensors: its last value, and derivatives of its sum up to `order`."""

    def function(x: Any, y: Any) -> Any:
        values = [x, y]
        for which, a, b in steps:
            first = values[-1 - a % min(len(values), 4)]
            if which < len(_UNARY):
                values.append(_UNARY[which](first))
            else:
                values.append(_BINARY[which - len(_UNARY)](first, values[-1 - b % min(len(values), 4)]))
        out = values[-1]
        if order == 0:
            return [out.detach()]
        gradients = tg.autograd.grad((out * out).sum() + x.sum() + y.sum(), [x, y], create_graph=order > 1)
        if order == 1:
            return [out.detach(), *gradients]
        ends = (gradients[0] * gradients[0]).sum() + (gradients[1] * y).sum() + (x * y).sum()
        return [out.detach(), *(g.detach() for g in gradients), *tg.autograd.grad(ends, [x, y])]

    return function


@given(st.lists(_step, min_size=1, max_size=9), st.integers(0, 2), st.integers(0, 1000))
def test_random_programs(steps: list[tuple[int, int, int]], order: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    function = _function(steps, order)
    compiled = tg.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            arrays = [rng.uniform(-1, 1, (_ROWS, _COLUMNS)).astype(np.float32) for _ in range(2)]
            expected = function(*(tg.tensor(a, requires_grad=True) for a in arrays))
            got = compiled(*(tg.tensor(a, requires_grad=True) for a in arrays))
            for e, g in zip(expected, got, strict=True):
                scale = max(1.0, float(np.abs(e.numpy()).max()))
                np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e-4, atol=2e-5 * scale)
    assert tg.compile.explain(compiled).plans
