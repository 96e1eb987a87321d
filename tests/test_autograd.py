"""The contracts of the autograd engine: accumulation, lifetime of the graph, in-place writes, modes, hooks, memory."""

from __future__ import annotations

import gc
import operator
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_cv as tg
from tinygrad_cv.autograd import gradcheck


def leaf(*values: float, dtype: Any = np.float64) -> tg.Tensor:
    return tg.tensor(np.array(values, dtype), requires_grad=True)


# Accumulation and reuse ----------------------------------------------------------------------------------------------------


def test_square_by_product_uses_its_operand_twice() -> None:
    x = leaf(3.0)
    (x * x).backward()
    assert x.grad.tolist() == [6.0]


def test_diamond() -> None:
    x = leaf(2.0)
    a = x * 3
    b, c = a.exp(), a * a
    (b * c).backward()
    # f = e^(3x) 9x^2, f' = e^(3x) (27 x^2 + 18 x)
    assert x.grad.item() == pytest.approx(np.exp(6) * (27 * 4 + 36), rel=1e-14)


def test_reused_inner_nodes() -> None:
    a = leaf(1.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad.tolist() == [4.0]


def test_leaf_gradients_accumulate_until_cleared() -> None:
    x = leaf(2.0)
    for expected in (3.0, 6.0, 9.0):
        (x * 3).backward()
        assert x.grad.tolist() == [expected]
    x.grad = None
    (x * 3).backward()
    assert x.grad.tolist() == [3.0]


def test_a_second_backward_doubles_exactly_when_retained_and_raises_by_name_otherwise() -> None:
    x = leaf(0.3, -1.2)
    loss = (x.exp() * x).sum()
    loss.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    loss.backward()
    assert np.array_equal(x.grad.numpy(), 2 * once)
    with pytest.raises(RuntimeError, match=r"(sum|mul|exp): backward has already passed .*retain_graph=True"):
        loss.backward()
    assert np.array_equal(x.grad.numpy(), 2 * once), "the refused call wrote nothing"


def test_only_leaves_get_grad_unless_asked() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y * y
    y.retain_grad()
    z.sum().backward()
    assert y.grad.tolist() == [4.0, 8.0] and y.retains_grad and z.grad is None
    assert x.grad.tolist() == [8.0, 16.0]


def test_broadcast_operands_get_gradients_of_their_own_shape() -> None:
    shapes = [(), (1,), (3,), (2, 1), (1, 3), (2, 3), (4, 1, 1), (1, 1, 3)]
    for first in shapes:
        for second in shapes:
            a, b = tg.ones(first, dtype=tg.float64, requires_grad=True), tg.ones(second, dtype=tg.float64, requires_grad=True)
            out = a * 2 + b * 3
            out.sum().backward()
            assert a.grad.shape == first and b.grad.shape == second
            assert np.all(a.grad.numpy() == 2 * out.numel() / a.numel()) and np.all(
                b.grad.numpy() == 3 * out.numel() / b.numel()
            )


_BINARY: list[Callable[[Any, Any], Any]] = [
    operator.add, operator.sub, operator.mul, lambda a, b: a * b.sin(), lambda a, b: a.tanh() + b * b,
]  # fmt: skip
_UNARY: list[Callable[[Any], Any]] = [
    lambda a: a.sin(), lambda a: a.tanh(), lambda a: a * a, lambda a: a + a, lambda a: (a * 0.5).exp(), lambda a: -a,
    lambda a: a.sum(0, keepdim=True).expand(a.shape), lambda a: a.T.T, lambda a: a.reshape(-1).reshape(a.shape),
]  # fmt: skip


@st.composite
def programs(draw: Any) -> list[tuple[int, ...]]:
    """A random graph over two inputs: each step names an operation and which earlier values it uses (any may be used often)."""
    steps = []
    for made in range(2, 2 + draw(st.integers(1, 9))):
        pick = st.integers(0, made - 1)
        if draw(st.booleans()):
            steps.append((0, draw(st.integers(0, len(_BINARY) - 1)), draw(pick), draw(pick)))
        else:
            steps.append((1, draw(st.integers(0, len(_UNARY) - 1)), draw(pick)))
    return steps


@given(programs(), st.integers(0, 2**16))
def test_random_graphs_with_shared_nodes_match_finite_differences(program: list[tuple[int, ...]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = tuple(tg.tensor(0.5 * rng.normal(size=(2, 2)), requires_grad=True) for _ in range(2))

    def run(*given: tg.Tensor) -> tg.Tensor:
        values = list(given)
        for kind, which, *places in program:
            chosen = [values[p] for p in places]
            out = _BINARY[which](*chosen) if kind == 0 else _UNARY[which](*chosen)
            values.append(out.tanh() if kind == 0 else out * 0.9)
        return values[-1] * 1 + 0 * (given[0] + given[1])

    assert gradcheck(run, inputs)


def test_a_chain_of_50000_operators_at_the_default_recursion_limit() -> None:
    assert sys.getrecursionlimit() <= 3000
    x = leaf(0.5)
    y = x
    for _ in range(25_000):
        y = (y + 1.0) * 1.0
    y.backward()
    assert x.grad.tolist() == [1.0]
    assert len(tg.graph.trace(y).nodes) > 50_000
    dead = weakref.ref(y.grad_fn)
    del y
    assert dead() is None, "freed without recursion and without the garbage collector"


# backward and grad ---------------------------------------------------------------------------------------------------------


def test_upstream_gradients() -> None:
    x = leaf(1.0, 2.0)
    (x * x).backward(tg.tensor([10.0, 100.0], dtype=tg.float64))
    assert x.grad.tolist() == [20.0, 400.0]
    with pytest.raises(RuntimeError, match=r"left out only for a tensor of one element.*\(2,\)"):
        (x * x).backward()
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(2,\)"):
        (x * x).backward(tg.ones(3))
    with pytest.raises(RuntimeError, match="does not require grad"):
        tg.ones(1).backward()


def test_grad_returns_and_does_not_accumulate() -> None:
    x, y, z = leaf(2.0), leaf(3.0), leaf(1.0)
    gx, gy = tg.autograd.grad(x * y * y, (x, y))
    assert (gx.item(), gy.item()) == (9.0, 12.0) and x.grad is None and y.grad is None
    with pytest.raises(RuntimeError, match=r"do not depend on input 1 .*allow_unused=True"):
        tg.autograd.grad(x * 2, (x, z))
    assert tg.autograd.grad(x * 2, (x, z), allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match=r"input 0 .* does not require grad"):
        tg.autograd.grad(x * 2, tg.ones(1))


def test_grad_of_inner_tensors_of_several_outputs_and_of_itself() -> None:
    x = leaf(2.0)
    h = x * x
    out = h * 3 + x
    gh, gx = tg.autograd.grad(out, (h, x), retain_graph=True)
    assert (gh.item(), gx.item()) == (3.0, 13.0)
    assert tg.autograd.grad((out, h), x, grad_outputs=(tg.ones(1), 10 * tg.ones(1)))[0].item() == 13 + 40
    assert tg.autograd.grad(x, x)[0].item() == 1.0


def test_backward_into_chosen_inputs_only() -> None:
    x, y = leaf(2.0), leaf(3.0)
    (x * y).backward(inputs=[x])
    assert x.grad.tolist() == [3.0] and y.grad is None


def test_third_derivative_through_create_graph() -> None:
    x = leaf(0.7)
    (first,) = tg.autograd.grad(x.sin() * x, x, create_graph=True)
    (second,) = tg.autograd.grad(first, x, create_graph=True)
    (third,) = tg.autograd.grad(second, x)
    v = 0.7
    assert first.item() == pytest.approx(np.cos(v) * v + np.sin(v), rel=1e-14)
    assert second.item() == pytest.approx(2 * np.cos(v) - v * np.sin(v), rel=1e-14)
    assert third.item() == pytest.approx(-3 * np.sin(v) - v * np.cos(v), rel=1e-14)
    assert not third.requires_grad


def test_backward_with_create_graph_gives_a_differentiable_grad() -> None:
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    assert x.grad.requires_grad
    (again,) = tg.autograd.grad(x.grad, x)
    assert again.item() == pytest.approx(12.0)


# Dtypes --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [tg.int64, tg.int32, tg.uint8, tg.bool_])
def test_requires_grad_on_a_dtype_without_gradients_raises(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"only floating tensors"):
        tg.ones(2, dtype=dtype).requires_grad_()
    with pytest.raises(TypeError, match=r"only floating tensors"):
        tg.tensor([1, 0], dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("dtype", [tg.float32, tg.float64])
def test_gradients_have_the_dtype_of_their_tensor(dtype: Any) -> None:
    x, w = tg.rand(3, 4).to(dtype).requires_grad_(), tg.rand(4, 2).to(dtype).requires_grad_()
    loss = ((x @ w).exp().mean(0) * 2.5 + 1).log().sum()
    assert loss.dtype == dtype
    loss.backward()
    assert x.grad.dtype == dtype and w.grad.dtype == dtype


def test_mixed_precision_gives_each_operand_its_own_dtype() -> None:
    a, b = leaf(1.0, 2.0, dtype=np.float32), leaf(3.0, 4.0)
    out = a * b
    out.sum().backward()
    assert out.dtype == tg.float64 and a.grad.dtype == tg.float32 and b.grad.dtype == tg.float64


# Aliasing ------------------------------------------------------------------------------------------------------------------


def test_grads_share_memory_with_nothing() -> None:
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    upstream = tg.tensor([5.0, 6.0], dtype=tg.float64)
    (a + b).backward(upstream)
    assert not np.shares_memory(a.grad.numpy(), b.grad.numpy())
    assert not np.shares_memory(a.grad.numpy(), upstream.numpy())
    with tg.no_grad():
        a.grad.mul_(0)
    assert b.grad.tolist() == [5.0, 6.0] and upstream.tolist() == [5.0, 6.0]
    c = leaf(1.0, 2.0)
    c.view(2, 1).backward(tg.ones(2, 1, dtype=tg.float64))
    (c * upstream).sum().backward()
    with tg.no_grad():
        c.grad.add_(1)
    assert upstream.tolist() == [5.0, 6.0]


def test_stored_gradients_do_not_change_under_a_later_backward() -> None:
    x = leaf(1.0)
    (x * 2).backward()
    kept = x.grad
    (x * 2).backward()
    assert x.grad.tolist() == [4.0]
    assert kept is x.grad or kept.tolist() == [2.0]
    y = leaf(1.0, 1.0)
    h = y * 1
    h.retain_grad()
    (h + h).sum().backward()
    assert not np.shares_memory(h.grad.numpy(), y.grad.numpy())


def test_expanded_gradients_become_plain_memory() -> None:
    x = leaf(1.0, 2.0)
    x.sum().backward()
    with tg.no_grad():
        x.grad[0] = 7.0
    assert x.grad.tolist() == [7.0, 1.0]


# Modes ---------------------------------------------------------------------------------------------------------------------


def test_no_grad_builds_no_nodes_and_nests() -> None:
    x = leaf(1.0)
    with tg.no_grad():
        y = x * 2
        assert not y.requires_grad and y.grad_fn is None
        with tg.enable_grad():
            assert (x * 2).requires_grad
        assert not tg.is_grad_enabled()
    assert tg.is_grad_enabled()

    @tg.no_grad()
    def decorated() -> tg.Tensor:
        return x * 2

    assert not decorated().requires_grad and (x * 2).requires_grad


def test_set_grad_enabled_as_call_and_as_block() -> None:
    x = leaf(1.0)
    tg.set_grad_enabled(False)
    assert not (x * 2).requires_grad
    tg.set_grad_enabled(True)
    with tg.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_modes_are_restored_after_errors() -> None:
    for mode in (tg.no_grad, tg.inference_mode, lambda: tg.set_grad_enabled(False), tg.autograd.detect_anomaly):
        with pytest.raises(KeyError), mode():
            raise KeyError
        assert tg.is_grad_enabled() and not tg.is_inference_mode_enabled()


def test_inference_tensors_never_enter_a_recorded_computation() -> None:
    x = leaf(1.0)
    with tg.inference_mode():
        frozen = x * 2
    with pytest.raises(RuntimeError, match=r"mul: a tensor made under inference_mode"):
        frozen * x
    assert (frozen.clone() * x).requires_grad


def test_threads_have_their_own_modes() -> None:
    seen: dict[str, bool] = {}
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait(5)
        seen["enabled"] = tg.is_grad_enabled()
        x = leaf(3.0)
        (x * x).backward()
        seen["right"] = x.grad.tolist() == [6.0]
        tg.set_grad_enabled(False)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with tg.no_grad():
        inside.set()
        assert done.wait(5)
    thread.join()
    assert seen == {"enabled": True, "right": True} and tg.is_grad_enabled()


def test_backward_runs_in_several_threads_at_once() -> None:
    results: list[float] = []

    def work(scale: float) -> None:
        for _ in range(20):
            x = leaf(scale)
            (x.exp() * x).sum().backward()
            results.append(x.grad.item() - np.exp(scale) * (1 + scale))

    threads = [threading.Thread(target=work, args=(0.1 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80 and max(map(abs, results)) < 1e-12


# Errors leave no state behind ----------------------------------------------------------------------------------------------


def test_an_exception_in_a_hook_leaves_everything_as_it_was() -> None:
    x, y = leaf(1.0), leaf(2.0)
    h = x * 3

    def fail(gradient: tg.Tensor) -> None:
        raise ZeroDivisionError("in a hook")

    handle = h.register_hook(fail)
    loss = (h * y).sum()
    with pytest.raises(ZeroDivisionError):
        loss.backward(retain_graph=True)
    assert x.grad is None and y.grad is None, "nothing is written unless everything succeeded"
    assert tg.is_grad_enabled() and np.geterr()["divide"] == "warn"
    handle.remove()
    loss.backward()
    assert x.grad.tolist() == [6.0] and y.grad.tolist() == [3.0]


def test_a_failed_operator_call_leaves_no_trace() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match="add: shapes"):
        x + tg.ones(3)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


# Hooks ---------------------------------------------------------------------------------------------------------------------


def test_hooks_see_and_replace_gradients_in_order_and_can_be_removed() -> None:
    x = leaf(1.0)
    h = x * 2
    seen: list[float] = []
    h.register_hook(lambda g: seen.append(g.item()))
    handle = h.register_hook(lambda g: g * 10)
    h.register_hook(lambda g: seen.append(g.item()))
    (h * 3).backward(retain_graph=False)
    assert seen == [3.0, 30.0] and x.grad.tolist() == [60.0]
    handle.remove()
    handle.remove()
    with x.register_hook(lambda g: g + 1):
        (x * 2).backward()
    assert x.grad.tolist() == [63.0]
    (x * 2).backward()
    assert x.grad.tolist() == [65.0]


def test_a_hook_sees_the_whole_gradient_once() -> None:
    x = leaf(1.0)
    h = x * 1
    seen: list[float] = []
    h.register_hook(lambda g: seen.append(g.item()))
    (h * 2 + h * 3).backward()
    assert seen == [5.0]


def test_hooks_that_return_nonsense_raise() -> None:
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g[:1])
    with pytest.raises(RuntimeError, match=r"hook must return None or a Tensor of shape \(2,\)"):
        (x * 2).sum().backward()
    with pytest.raises(RuntimeError, match="does not require grad"):
        tg.ones(1).register_hook(print)


def test_detect_anomaly_names_the_operator_and_the_users_line() -> None:
    x = leaf(0.0, 1.0)
    with tg.autograd.detect_anomaly():
        y = x * 0
        bad = y.sqrt() * 0  # the culprit
        with pytest.raises(RuntimeError, match=r"backward of sqrt gave NaN") as error:
            bad.sum().backward()
    assert "test_autograd.py" in str(error.value) and "# the culprit" in str(error.value)
    assert x.grad is None


# Lifetime and memory -------------------------------------------------------------------------------------------------------


@pytest.fixture
def collector_off() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_what_was_saved_is_freed_by_backward(collector_off: Any) -> None:
    x = leaf(1.0, 2.0)
    hidden = x * 2
    out = hidden.exp() * hidden
    dead = weakref.ref(hidden._data if False else hidden)
    arrays = [np.shares_memory(hidden.numpy(force=True), a) for a, _, _ in out.grad_fn.saved]
    assert any(arrays)
    del hidden
    assert dead() is None, "the graph keeps arrays, not tensors"
    out.sum().backward()
    assert out.grad_fn.saved == ()


def test_a_graph_dies_with_its_last_tensor(collector_off: Any) -> None:
    x = leaf(1.0, 2.0)
    loss = ((x * 2).exp().reshape(2, 1) @ tg.ones(1, 2, dtype=tg.float64))[0].sum()
    nodes = [weakref.ref(loss.grad_fn)]
    while nodes[-1]().parents:
        inner = [p for p in nodes[-1]().parents if type(p) is type(loss.grad_fn)]
        if not inner:
            break
        nodes.append(weakref.ref(inner[0]))
        del inner
    assert len(nodes) >= 4
    del loss
    assert all(n() is None for n in nodes)


def test_create_graph_leaves_no_cycle(collector_off: Any) -> None:
    x = leaf(0.5)
    y = x.exp() * x
    (g,) = tg.autograd.grad(y, x, create_graph=True)
    (gg,) = tg.autograd.grad(g, x, create_graph=True)
    dead = [weakref.ref(t.grad_fn) for t in (y, g, gg)]
    del y, g, gg
    assert all(d() is None for d in dead)


def test_a_thousand_steps_hold_memory_within_five_percent(collector_off: Any) -> None:
    w1, w2 = tg.randn(16, 32).requires_grad_(), tg.randn(32, 4).requires_grad_()
    data = tg.randn(64, 16)

    def step() -> None:
        loss = ((data @ w1).relu() @ w2).square().mean()
        loss.backward()
        with tg.no_grad():
            for w in (w1, w2):
                w.sub_(w.grad * 1e-3)
                w.grad = None

    for _ in range(3000):  # CPython keeps up to 2,000 dead tuples of each size for reuse: full before we count
        step()
    tracemalloc.start()
    try:
        step()
        start = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        step()
        peak = tracemalloc.get_traced_memory()[1]
        for _ in range(1000):
            step()
        end, latest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert end - start < 0.05 * peak and latest < 1.05 * peak
