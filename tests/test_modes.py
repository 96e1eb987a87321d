"""The recording switches as decorators, and the arguments of `tg.autograd.grad` that are about what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg

PLAIN = {"no_grad": False, "enable_grad": True, "inference_mode": False}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("parentheses", [False, True])
def test_switches_decorate_functions_and_methods_with_and_without_parentheses(name: str, parentheses: bool) -> None:
    switch = getattr(tg, name)() if parentheses else getattr(tg, name)

    @switch
    def double(x: Any, /, *, values: int = 2, function: int = 1) -> Any:
        """Twice."""
        return x * values * function

    class Holder:
        @switch
        def method(self, x: Any) -> tuple[Any, Any]:
            return self, x * 2

        @staticmethod
        @switch
        def plain(x: Any) -> Any:
            return x * 2

        @classmethod
        @switch
        def of(cls, x: Any) -> Any:
            return x * 2

    x = tg.ones(2, requires_grad=True)
    holder = Holder()
    with tg.set_grad_enabled(not PLAIN[name]):
        results = [double(x, values=2, function=1), holder.method(x)[1], Holder.plain(x), Holder.of(x)]
        assert tg.is_grad_enabled() is not PLAIN[name] and not tg.is_inference_mode_enabled()
    assert [r.requires_grad for r in results] == [PLAIN[name]] * 4 and [r.tolist() for r in results] == [[2.0, 2.0]] * 4
    assert holder.method(x)[0] is holder and double.__name__ == "double" and double.__doc__ == "Twice."


def test_a_decorated_function_that_raises_and_one_that_calls_itself_leave_nothing_switched() -> None:
    @tg.no_grad
    def depth(n: int) -> int:
        assert not tg.is_grad_enabled()
        if n == 0:
            raise KeyError("bottom")
        return depth(n - 1)

    with pytest.raises(KeyError):
        depth(5)
    assert tg.is_grad_enabled()


@pytest.mark.parametrize("parentheses", [False, True])
def test_every_step_of_a_generator_function_is_switched_and_its_caller_is_not(parentheses: bool) -> None:
    seen = []

    @(tg.no_grad() if parentheses else tg.no_grad)
    def steps() -> Iterator[Any]:
        try:
            given = yield tg.is_grad_enabled()
            try:
                yield given, tg.is_grad_enabled()
            except KeyError as error:
                yield error.args[0], tg.is_grad_enabled()
            return "end"
        finally:
            seen.append(tg.is_grad_enabled())

    running = steps()
    assert next(running) is False and tg.is_grad_enabled()
    assert running.send("sent") == ("sent", False) and tg.is_grad_enabled()
    assert running.throw(KeyError("thrown")) == ("thrown", False) and tg.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == "end"
    closed = steps()
    next(closed)
    closed.close()
    assert seen == [False, False] and tg.is_grad_enabled()


def test_what_cannot_be_decorated_is_refused() -> None:
    with pytest.raises(TypeError, match=r"no_grad: expected a function to decorate, got int; use `with no_grad\(\):`"):
        tg.no_grad(3)
    with pytest.raises(TypeError, match="inference_mode: expected a function"):
        tg.inference_mode("yes")
    with pytest.raises(TypeError, match="enable_grad: decorate the methods of Net"):

        @tg.enable_grad
        class Net:
            pass

    with tg.inference_mode(mode=False):
        assert tg.is_grad_enabled()


def test_materialize_grads_gives_zeros_where_nothing_depends() -> None:
    x, y = tg.tensor([1.0, 2.0], requires_grad=True), tg.ones(3, dtype=tg.float64, requires_grad=True)
    loss = (x * x).sum()
    dx, dy = tg.autograd.grad(loss, [x, y], materialize_grads=True)
    assert dx.tolist() == [2.0, 4.0] and dy.tolist() == [0.0] * 3 and dy.dtype == tg.float64 and not dy.requires_grad
    assert all(g.requires_grad for g in tg.autograd.grad((x * x).sum(), [x, y], create_graph=True, materialize_grads=True))
    with pytest.raises(RuntimeError, match=r"do not depend on input 1 .*materialize_grads=True for zeros"):
        tg.autograd.grad((x * x).sum(), [x, y])
    with pytest.raises(ValueError, match="allow_unused must be True or left out"):
        tg.autograd.grad(loss, [x, y], allow_unused=False, materialize_grads=True)
    with pytest.raises(ValueError, match="only_inputs=False is not supported"):
        tg.autograd.grad(loss, [x], only_inputs=False)


def test_batched_upstreams_give_one_gradient_each() -> None:
    rng = np.random.default_rng(0)
    x, unused = tg.tensor(rng.standard_normal(4), requires_grad=True), tg.ones(1, requires_grad=True)
    upstream = rng.standard_normal((3, 4))
    found, none = tg.autograd.grad(
        x.exp(), [x, unused], tg.tensor(upstream), is_grads_batched=True, allow_unused=True, create_graph=True
    )
    assert none is None
    np.testing.assert_allclose(found.detach().numpy(), upstream * np.exp(x.detach().numpy()), rtol=1e-12)
    (second,) = tg.autograd.grad(found.sum(), [x])
    np.testing.assert_allclose(second.numpy(), upstream.sum(0) * np.exp(x.detach().numpy()), rtol=1e-12)
    with pytest.raises(ValueError, match="is_grads_batched=True needs grad_outputs"):
        tg.autograd.grad(x.exp(), [x], is_grads_batched=True)


def test_set_detect_anomaly_is_a_function_and_a_context_manager() -> None:
    def bad() -> None:
        x = tg.tensor([0.0], requires_grad=True)
        (x.sqrt() * 0).sum().backward()

    try:
        tg.autograd.set_detect_anomaly(True)
        assert tg.is_anomaly_enabled() and tg.autograd.is_anomaly_enabled()
        with pytest.raises(RuntimeError, match="sqrt"):
            bad()
        with tg.autograd.set_detect_anomaly(False):
            bad()
        assert tg.is_anomaly_enabled()
        tg.autograd.set_detect_anomaly(True, check_nan=False)
        assert not tg.is_anomaly_enabled()
    finally:
        tg.autograd.set_detect_anomaly(False)
    with tg.autograd.set_detect_anomaly(True), pytest.raises(RuntimeError, match="sqrt"):
        bad()
    assert not tg.is_anomaly_enabled()
