"""checkpoint: the same results and gradients with less memory."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv.autograd import checkpoint, grad, gradcheck, gradgradcheck


def normal(*shape: int, seed: int = 0, scale: float = 0.4) -> tg.Tensor:
    return tg.tensor(scale * np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def body(x: tg.Tensor, w: tg.Tensor) -> tg.Tensor:
    for _ in range(4):
        x = (x @ w).tanh() * x.sigmoid()
    return x


def test_gradients_are_identical() -> None:
    x, w = normal(5, 4), normal(4, 4, seed=1)
    plain = grad((body(x, w) ** 2).sum(), (x, w))
    for reentrant in (None, False, True):
        again = grad((checkpoint(body, x, w, use_reentrant=reentrant) ** 2).sum(), (x, w))
        assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(plain, again, strict=True))


def test_against_finite_differences_also_twice() -> None:
    x, w = normal(2, 3), normal(3, 3, seed=1)
    assert gradcheck(lambda a, b: checkpoint(body, a * 2, b), (x, w))
    assert gradgradcheck(lambda a, b: checkpoint(body, a * 2, b), (x, w))


def test_closures_several_outputs_numbers_and_keywords() -> None:
    x, w = normal(3), normal(3, seed=1)
    hidden = w * 2

    def region(a: tg.Tensor, power: float, *, shift: float = 0.0) -> Any:
        return {"power": (a * hidden + shift) ** power, "rest": [a.exp() * w]}

    def total(out: Any) -> tg.Tensor:
        return out["power"].sum() + out["rest"][0].sum()

    plain = grad(total(region(x, 2.0, shift=1.0)), (x, w), retain_graph=True)  # both go on through `hidden`
    again = grad(total(checkpoint(region, x, 2.0, shift=1.0)), (x, w))
    assert all(np.allclose(a.numpy(), b.numpy(), rtol=1e-15) for a, b in zip(plain, again, strict=True))


def test_nested_and_chained() -> None:
    x, w = normal(2, 3), normal(3, 3, seed=1)

    def outer(a: tg.Tensor, b: tg.Tensor) -> tg.Tensor:
        return checkpoint(body, a.sin(), b) * a

    plain = grad(body(body(x, w).sin(), w).sum() + 0, (x, w))
    again = grad((checkpoint(body, checkpoint(body, x, w).sin(), w)).sum(), (x, w))
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(plain, again, strict=True))
    assert gradcheck(lambda a, b: checkpoint(outer, a, b), (x, w))


def test_random_numbers_come_out_the_same() -> None:
    x = normal(1000)
    out = checkpoint(lambda a: a * tg.bernoulli(tg.full((1000,), 0.5, dtype=tg.float64)) * a, x)
    after = tg.get_rng_state()
    tg.rand(7)
    moved = tg.get_rng_state()
    (gradient,) = grad(out.sum(), x)
    assert np.allclose(gradient.numpy(), 2 * np.where(out.detach().numpy() != 0, x.detach().numpy(), 0))
    assert tg.get_rng_state() == moved != after, "the recomputation leaves the generator where it was"


def test_it_runs_once_in_forward_and_once_in_backward() -> None:
    calls = []
    x = normal(3)

    def counted(a: tg.Tensor) -> tg.Tensor:
        calls.append(tg.is_grad_enabled())
        return a.exp().sin()

    out = checkpoint(counted, x)
    assert calls == [True]
    out.sum().backward()
    assert calls == [True, True]
    with pytest.raises(RuntimeError, match="freed"):
        out.sum().backward()
    assert len(calls) == 2
    kept = checkpoint(counted, x).sum()
    kept.backward(retain_graph=True)
    kept.backward()
    assert len(calls) == 4, "retain_graph keeps what was recomputed"
    with tg.no_grad():
        assert not checkpoint(counted, x).requires_grad
    assert calls[-1] is False


def test_memory_between_forward_and_backward_is_that_of_the_ends() -> None:
    w = normal(8, 8, seed=1)

    def deep(x: tg.Tensor) -> tg.Tensor:
        for _ in range(20):
            x = (x @ w).tanh()
        return x

    x = normal(20000, 8)
    size = x.numpy(force=True).nbytes
    gc.disable()
    try:
        held = []
        for run in (deep, lambda a: checkpoint(deep, a)):
            tracemalloc.start()
            out = run(x)
            held.append(tracemalloc.get_traced_memory()[0] / size)
            tracemalloc.stop()
            del out
    finally:
        gc.enable()
    assert held[0] > 18, "twenty steps keep about twenty arrays"
    assert held[1] < 2, "checkpointed, the output alone"


def test_a_function_that_does_something_else_the_second_time_is_named() -> None:
    x, calls = normal(3), []

    def fickle(a: tg.Tensor) -> tg.Tensor:
        calls.append(1)
        return a.exp() if len(calls) == 1 else a.sin().exp()

    out = checkpoint(fickle, x)
    with pytest.raises(RuntimeError, match=r"checkpoint: recomputing gave 2 operators .*sin.*forward had 1"):
        out.sum().backward()


def test_arguments_are_protected_from_in_place_writes() -> None:
    x = normal(3)
    y = x * 1
    out = checkpoint(lambda a: a.exp().sin(), y)
    with pytest.raises(RuntimeError, match="saved by checkpoint"):
        y.add_(1)
    out.sum().backward()
    y.add_(1)


def test_dropping_the_result_recomputes_nothing() -> None:
    calls = []

    def counted(a: tg.Tensor) -> tg.Tensor:
        calls.append(1)
        return a.exp()

    y = normal(3) * 1
    out = checkpoint(counted, y)
    del out
    assert len(calls) == 1
    y.add_(1)


def test_state_is_restored_after_an_error_in_the_recomputation() -> None:
    x, calls = normal(3), []

    def fails(a: tg.Tensor) -> tg.Tensor:
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("second time")
        return a.exp()

    out = checkpoint(fails, x)
    with pytest.raises(ValueError, match="second time"):
        out.sum().backward()
    assert tg.is_grad_enabled() and x.grad is None


def test_every_keyword_of_pytorchs_stays_out_of_the_function() -> None:
    x, w = normal(2, 3), normal(3, 3, seed=1)
    entered: list[str] = []

    class Note:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            entered.append(self.name)

        def __exit__(self, *_: object) -> None:
            entered.append("end")

    out = checkpoint(
        body, x, w, use_reentrant=False, preserve_rng_state=True, determinism_check="default", debug=True, early_stop=False,
        context_fn=lambda: (Note("forward"), Note("again")),
    )  # fmt: skip
    assert entered == ["forward", "end"]
    got = grad(out.sum(), (x, w))
    assert entered == ["forward", "end", "again", "end"]
    expected = grad(body(x, w).sum(), (x, w))
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(got, expected, strict=True))
    with pytest.raises(ValueError, match="determinism_check must be 'default' or 'none'"):
        checkpoint(body, x, w, determinism_check="strict")
    with pytest.raises(TypeError, match="unexpected keyword"):
        checkpoint(body, x, w, early_stopping=True)


def test_shapes_that_change_are_noticed_and_debug_lists_both_runs() -> None:
    x, sizes = normal(4), iter([2, 3, 2, 3])

    def changing(a: tg.Tensor) -> tg.Tensor:
        return a[: next(sizes)].exp().sum()

    with pytest.raises(RuntimeError, match=r"getitem \(3,\) float64 where forward had getitem \(2,\) float64(?!.*again)"):
        checkpoint(changing, x).backward()
    with pytest.raises(RuntimeError, match=r"forward: getitem \(2,\) float64, exp .*\nagain: getitem \(3,\) float64, exp "):
        checkpoint(changing, x, debug=True).backward()
