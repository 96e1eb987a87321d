"""tg.compile: what a call gives does not show whether it ran as a plan: aliases, writes in place, hooks, Python state, copies."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn

Scene = Callable[[Callable[..., Any]], Iterator[Any]]
_scenes: list[Scene] = []


def scene(function: Scene) -> Scene:
    """A program over `compiled`, which compiles or returns its argument: what it yields must be the same in both cases."""
    _scenes.append(function)
    return function


def draw(*shape: int, requires_grad: bool = False) -> tg.Tensor:
    return tg.tensor(_rng.standard_normal(shape).astype(np.float32), requires_grad=requires_grad)


_rng = np.random.default_rng(0)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, tg.Tensor):
        return [value.numpy(force=True).copy()]
    if isinstance(value, (tuple, list)):
        return [a for v in value for a in _flat(v)]
    return [value]


# Arguments and results -------------------------------------------------------------------------------------------------


@scene
def one_tensor_given_twice_then_two(compiled: Any) -> Iterator[Any]:
    f = compiled(lambda a, b: a * a * b)
    for same in (True, True, True, False, False, False, True):
        a = draw(3, requires_grad=True)
        b = a if same else draw(3, requires_grad=True)
        f(a, b).sum().backward()
        yield a.grad, b.grad


@scene
def an_argument_that_is_also_a_parameter(compiled: Any) -> Iterator[Any]:
    p = draw(3)
    f = compiled(lambda a: a * 2 + p * 3)
    for given in (p, p, p, draw(3), draw(3), p):
        yield f(given)


@scene
def a_leaf_argument_whose_gradient_is_set_inside(compiled: Any) -> Iterator[Any]:
    f = compiled(lambda x: (x * x).sum().backward())
    x, y = draw(3, requires_grad=True), draw(3, requires_grad=True)
    for given in (x, x, x, x, y, y):
        f(given)
        yield x.grad, y.grad


@scene
def an_argument_that_is_computed_from_another(compiled: Any) -> Iterator[Any]:
    f = compiled(lambda a, b: a * b * 2)
    for _ in range(4):
        x = draw(4, requires_grad=True)
        a = x * 3
        f(a, a * a).sum().backward()
        yield x.grad


@scene
def an_argument_or_parameter_that_is_returned(compiled: Any) -> Iterator[Any]:
    p = draw(4, requires_grad=True)
    f = compiled(lambda a: (a, p, a * p))
    for _ in range(4):
        x, p.grad = draw(4, requires_grad=True), None
        a, q, product = f(x)
        (a * q * product).sum().backward()
        yield a is x, q is p, x.grad, p.grad


@scene
def an_argument_that_shares_memory_with_a_buffer_that_is_written(compiled: Any) -> Iterator[Any]:
    buffer = tg.zeros(4)

    def function(x: tg.Tensor) -> tg.Tensor:
        buffer.add_(1.0)
        return x * 2

    f = compiled(function)
    for given in (draw(4), draw(4), draw(4), buffer[:], buffer[:]):
        yield f(given), buffer


@scene
def results_that_are_changed_by_the_caller(compiled: Any) -> Iterator[Any]:
    def function(x: tg.Tensor) -> Any:
        zeros = tg.zeros(3)
        return zeros, x + zeros

    f = compiled(function)
    for _ in range(4):
        zeros, y = f(draw(3))
        zeros.add_(5.0)
        yield zeros, y


# Writes in place -------------------------------------------------------------------------------------------------------


@scene
def writes_to_a_tensor_made_inside(compiled: Any) -> Iterator[Any]:
    def function(x: tg.Tensor) -> Any:
        total = tg.zeros(3)
        before = total + x
        total.add_(1.0)
        return before, total * x

    f = compiled(function)
    for _ in range(4):
        yield f(draw(3))


@scene
def writes_through_detach_and_under_no_grad(compiled: Any) -> Iterator[Any]:
    p = tg.ones(3, requires_grad=True)

    def function(x: tg.Tensor) -> Any:
        a, b, c = x * 2, x + p, x + p
        a.detach().add_(1.0)
        b.data.mul_(2.0)
        with tg.no_grad():
            c.mul_(3.0)
        return a * 1, (b * 1).detach(), (c * 1).detach()

    f = compiled(function)
    for _ in range(4):
        yield f(draw(3))


@pytest.mark.parametrize("how", ["mul_", "data", "assigned"])
def test_gradients_changed_before_the_update(how: str) -> None:
    found = []
    for compiled in (False, True):
        parameters = [tg.arange(1.0, 4.0).requires_grad_(), tg.ones(3, requires_grad=True)]
        optimizer = tg.optim.SGD(parameters, lr=0.1, momentum=0.9)

        def step(x: tg.Tensor, parameters: Any = parameters, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            (parameters[0] * x * parameters[1]).sum().backward()
            for p in parameters:
                if how == "mul_":
                    p.grad.mul_(0.5)
                elif how == "data":
                    p.grad.data.clamp_(-0.1, 0.1)
                else:
                    p.grad = p.grad.flip(0) * 2
            optimizer.step()

        run = tg.compile(step) if compiled else step
        data = np.random.default_rng(1)
        for _ in range(6):
            run(tg.from_numpy(data.standard_normal(3, dtype=np.float32)))
        found.append(_flat([parameters, [p.grad for p in parameters]]))
        if compiled:
            assert tg.compile.explain(run).plans
    for expected, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@scene
def returned_gradients_are_the_gradients(compiled: Any) -> Iterator[Any]:
    p = draw(3, requires_grad=True)

    def step(x: tg.Tensor) -> Any:
        p.grad = None
        (p * p * x).sum().backward()
        return p.grad

    f = compiled(step)
    for _ in range(5):
        f(draw(3)).mul_(2.0)
        yield p.grad


# What a call relies on -------------------------------------------------------------------------------------------------


class _Holder:
    rate = 2.0

    def __init__(self) -> None:
        self.factor, self.weights, self.options, self.calls = 1.0, [tg.ones(3), tg.ones(3)], {"shift": 0.5}, 0

    @property
    def shift(self) -> float:
        return self.options["shift"]

    def step(self, x: tg.Tensor) -> tg.Tensor:
        return self.scaled(x) * self.weights[0] + self.weights[1] + self.shift

    def scaled(self, x: tg.Tensor) -> tg.Tensor:
        return x * self.factor * self.rate

    def counting(self, x: tg.Tensor) -> tg.Tensor:
        self.calls += 1
        return x * (2.0 if self.calls > 4 else 1.0)


@scene
def attributes_lists_and_dicts_that_change(compiled: Any) -> Iterator[Any]:
    holder = _Holder()
    array = np.ones(3, np.float32)
    f, g = compiled(holder.step), compiled(lambda x: x * tg.tensor(array))

    def change(i: int) -> None:
        if i == 1:
            holder.factor = 3.0
        elif i == 2:
            holder.weights[0] = draw(3)
        elif i == 3:
            holder.options["shift"] = 2.0
        elif i == 4:
            array[0] = 7.0

    for i in range(5):
        change(i)
        for _ in range(3):
            yield f(draw(3)), g(draw(3))


@scene
def counters_are_counted(compiled: Any) -> Iterator[Any]:
    holder = _Holder()
    f = compiled(holder.counting)
    for _ in range(7):
        yield f(draw(3)), holder.calls


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.activation, self._gain, self.options = tg.relu, 2.0, {"power": 1}

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.activation(x) * self._gain * OFFSET ** self.options["power"]


OFFSET = 1.5


@scene
def attributes_of_modules_and_globals_in_forward(compiled: Any) -> Iterator[Any]:
    global OFFSET
    layer = _Layer()
    f = compiled(nn.Sequential(layer))
    for i in range(5):
        if i == 1:
            layer.activation = tg.tanh
        elif i == 2:
            layer._gain = -1.0
        elif i == 3:
            layer.options["power"] = 2
        elif i == 4:
            OFFSET = 3.0
        for _ in range(3):
            yield f(draw(3))
    OFFSET = 1.5


@scene
def hooks_of_modules_parameters_and_arguments(compiled: Any) -> Iterator[Any]:
    layer = nn.Linear(3, 2)
    with tg.no_grad():
        layer.weight.copy_(tg.arange(6.0).reshape(2, 3))
    f = compiled(layer)

    def rounds() -> Iterator[Any]:
        for hooked in (False, False, False, True, True):
            layer.zero_grad()
            leaf = draw(4, 3, requires_grad=True)
            x = leaf * 1
            if hooked:
                x.register_hook(lambda g: g * 3)
            f(x).pow(2).sum().backward()
            yield leaf.grad, layer.weight.grad

    yield from rounds()
    for factor in (2.0, 5.0):
        with layer.register_forward_hook(lambda _m, _a, out, factor=factor: out * factor):
            yield from rounds()
    with layer.weight.register_hook(lambda g: g * 7):
        yield from rounds()
    yield from rounds()


@scene
def a_parameter_group_that_is_added(compiled: Any) -> Iterator[Any]:
    a, b = draw(3, requires_grad=True), draw(3, requires_grad=True)
    optimizer = tg.optim.SGD([a], lr=0.1)

    def step(x: tg.Tensor) -> None:
        optimizer.zero_grad()
        (a * x * b).sum().backward()
        optimizer.step()

    f = compiled(step)
    for i in range(8):
        if i == 4:
            optimizer.add_param_group({"params": [b], "lr": 0.3})
        f(draw(3))
        yield a, b


@scene
def grad_modes_inside_and_outside(compiled: Any) -> Iterator[Any]:
    p = tg.ones(4, requires_grad=True)

    def function(x: tg.Tensor) -> Any:
        with tg.enable_grad():
            return x * p

    f = compiled(function)
    for _ in range(4):
        p.grad = None
        with tg.no_grad():
            out = f(draw(4))
        out.sum().backward()
        yield p.grad
    g = compiled(lambda x: x * 2)
    for _ in range(4):
        with tg.inference_mode():
            yield g(draw(4)).is_inference()


@scene
def a_copy_of_a_compiled_module(compiled: Any) -> Iterator[Any]:
    layer = nn.Linear(3, 2)
    with tg.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(0.5)
    f = compiled(layer)
    for _ in range(3):
        yield f(draw(2, 3))
    other = copy.deepcopy(f)
    with tg.no_grad():
        other.weight.mul_(0.5)
    for _ in range(3):
        yield f(draw(2, 3)), other(draw(2, 3))


@pytest.mark.parametrize("program", _scenes, ids=lambda s: s.__name__)
def test_a_plan_is_not_seen_in(program: Scene) -> None:
    global _rng
    seen = []
    for compiled in (lambda f: f, tg.compile):
        _rng = np.random.default_rng(0)
        tg.manual_seed(0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "compile: .* runs as it is", RuntimeWarning)
            seen.append([_flat(found) for found in program(compiled)])
    assert len(seen[0]) == len(seen[1]) > 0
    for number, (expected, got) in enumerate(zip(*seen, strict=True)):
        for e, g in zip(expected, got, strict=True):
            if isinstance(e, np.ndarray) and isinstance(g, np.ndarray):
                np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-5, err_msg=f"observation {number}")
            else:
                assert e == g if not isinstance(e, np.ndarray) else False, f"observation {number}"


# Where there is no plan ------------------------------------------------------------------------------------------------


def test_calls_without_a_plan_say_why() -> None:
    compiled = tg.compile(lambda x, n: x * n)
    with pytest.warns(RuntimeWarning, match="too many kinds of calls"):
        for n in range(40):
            np.testing.assert_array_equal(compiled(tg.ones(2), n).numpy(), [n, n])
    compiled = tg.compile(lambda x, a: x * float(a.sum()))
    with pytest.warns(RuntimeWarning, match="an argument can be changed"):
        compiled(tg.ones(2), np.ones(2))


def test_results_that_are_dropped_give_their_plan_back() -> None:
    compiled = tg.compile(nn.Linear(3, 2))
    for _ in range(20):
        compiled(tg.ones(1, 3))
    (kind,) = type(compiled)._compiled_call._kinds.values()
    assert len(kind.plans) == len(kind.free) == 1


def test_parameters_that_backward_does_not_read_may_be_changed_before_it() -> None:
    def gradients(module: Any, given: tg.Tensor) -> list[np.ndarray]:
        loss = (module(given) ** 2).sum()
        with tg.no_grad():
            module.bias.add_(1)
        loss.backward()
        found = [p.grad.numpy().copy() for p in module.parameters()]
        module.zero_grad()
        return found

    tg.manual_seed(0)
    plain = nn.Linear(3, 2)
    compiled = tg.compile(copy.deepcopy(plain))
    for _ in range(5):
        given = draw(4, 3)
        for expected, got in zip(gradients(plain, given), gradients(compiled, given), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5)
    given = draw(4, 3, requires_grad=True)
    for _ in range(3):
        out = compiled(given)
    with tg.no_grad():
        compiled.bias.add_(1)
    with pytest.raises(RuntimeError, match="changed in place after forward"):
        tg.autograd.grad(out.sum(), given, create_graph=True)
    out = compiled(given)
    with pytest.raises(RuntimeError, match="saved by"), tg.no_grad():
        compiled.weight.add_(1)
