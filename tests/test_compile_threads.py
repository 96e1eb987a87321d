"""A plan asks at every call how many threads to use, as operators do: what held when it was made does not stay in it."""

from __future__ import annotations

from typing import Any

import pytest

import tinygrad_cv as tg
from tinygrad_cv.kernels import jit, shares, threads


def test_a_plan_made_while_the_cores_are_taken_is_parallel_later(monkeypatch: pytest.MonkeyPatch) -> None:
    if threads.get_num_threads() < 2:
        pytest.skip("needs two threads")
    images, weight = tg.randn(64, 3, 32, 32), tg.randn(32, 3, 3, 3)

    @tg.compile
    def forward(images: Any) -> Any:
        return tg.conv2d(images, weight, padding=1)

    monkeypatch.setattr(jit.crowding.watch, "crowded", lambda now: True)
    with tg.no_grad():
        for _ in range(3):
            crowded = forward(images).numpy()
        entered = []
        monkeypatch.setattr(jit.crowding.watch, "crowded", lambda now: False)
        monkeypatch.setattr(shares, "region_address", lambda plain=shares.region_address: entered.append(1) or plain())
        free = forward(images).numpy()
        assert entered, "the second core is used once it is free"
        monkeypatch.setattr(jit.crowding.watch, "crowded", lambda now: True)
        entered.clear()
        assert (forward(images).numpy() == free).all() and not entered
    assert (crowded == free).all()
    assert len(tg.compile.explain(forward).plans) == 1
