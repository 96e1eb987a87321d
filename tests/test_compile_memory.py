"""tg.compile: recording a call and making its plan take no more memory than the call; what is recorded keeps nothing alive."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn

MEGABYTE = 1 << 20


def _network() -> nn.Module:
    tg.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    for _ in range(6):
        layers += [nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def _training_step() -> Callable[..., Any]:
    model = _network()
    optimizer = tg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step(x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _inference() -> Callable[..., Any]:
    model = _network().eval()

    @tg.no_grad()
    def run(x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
        return nn.functional.cross_entropy(model(x), y)

    return run


def _peaks(function: Callable[..., Any], calls: int) -> list[int]:
    """The most bytes of kernels' results alive at once in each of some calls, beyond those alive before."""
    rng = np.random.default_rng(0)
    x, y = tg.from_numpy(rng.standard_normal((48, 3, 32, 32), dtype=np.float32)), tg.from_numpy(rng.integers(0, 10, 48))
    peaks = []
    for _ in range(calls):
        gc.collect()
        tg.memory.reset_peak_memory_stats()
        before = tg.memory.memory_allocated()
        function(x, y)
        peaks.append(tg.memory.max_memory_allocated() - before)
    return peaks


@pytest.mark.parametrize("make", [_training_step, _inference])
def test_a_recorded_call_takes_the_memory_of_the_call(make: Callable[[], Callable[..., Any]]) -> None:
    plain = _peaks(make(), 2)[-1]
    compiled = tg.compile(make(), fullgraph=True)
    recorded = _peaks(compiled, 3)  # the second or third, when the optimizer has its state, makes the plan
    (plan,) = tg.compile.explain(compiled).plans
    assert plain > 4 * MEGABYTE
    assert max(recorded) <= 1.1 * plain + MEGABYTE
    assert plan.memory <= 1.1 * plain
    assert max(_peaks(compiled, 3)) <= MEGABYTE  # a plan has memory of its own


def test_making_a_plan_gives_back_what_the_recording_used() -> None:
    compiled = tg.compile(_training_step(), fullgraph=True)
    _peaks(compiled, 3)
    assert tg.memory.memory_reserved() - tg.memory.memory_allocated() <= MEGABYTE


def test_a_recording_keeps_no_intermediate_array_and_no_argument_alive() -> None:
    arrays: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def function(x: tg.Tensor) -> tg.Tensor:
        for _ in range(8):
            x = (x * 2).exp().log()
            arrays.append(weakref.ref(x._data))
            alive.append(sum(r() is not None for r in arrays))
        return x

    compiled = tg.compile(function)
    for _ in range(2):
        argument = tg.ones(4)
        given = weakref.ref(argument._data)
        compiled(argument)
        del argument
        assert given() is None
    assert max(alive) <= 2  # the one that the loop has just made, and the one that it was made from
