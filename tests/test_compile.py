"""tg.compile: a plan gives what the function gives, on other data than it was recorded on, and stops when what it relies on changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn
from tinygrad_cv.domain import NumpyDraw
from tinygrad_cv.registry import Operator, operators
from tinygrad_cv.testing.kernel_checks import plan_against_eager

rng = np.random.default_rng(7)


def image(*shape: int) -> tg.Tensor:
    return tg.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def labels(n: int, classes: int = 10) -> tg.Tensor:
    return tg.from_numpy(rng.integers(0, classes, n))


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),  # whose gradient would be 0 but for rounding, which Adam makes large
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def plans(compiled: Any) -> tuple[Any, ...]:
    return tg.compile.explain(compiled).plans


def problems(compiled: Any) -> tuple[str, ...]:
    return tg.compile.explain(compiled).problems


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


# Every operator ------------------------------------------------------------------------------------------------------

_NOT_A_PLAN = {  # what asks for values in Python, or draws data-dependent shapes
    "allclose", "argwhere", "bincount", "equal", "index_copy", "index_fill", "masked_scatter", "masked_select", "nonzero", "unique",
    "unique_all",
}  # fmt: skip


@pytest.mark.parametrize("operator", operators(plugins=False), ids=lambda o: o.name)
def test_a_plan_gives_the_values_and_gradients_of_every_operator(operator: Operator) -> None:
    compiled, compared = plan_against_eager(operator, operator.domain(NumpyDraw(1)), seed=3)
    if operator.name not in _NOT_A_PLAN and compared > 2:
        assert plans(compiled) or problems(compiled)


# Training steps ------------------------------------------------------------------------------------------------------


def _train(compiled: bool, make: Callable[[], nn.Module], optimizer: Callable[..., Any], steps: int = 6, **options: Any) -> Any:
    tg.manual_seed(0)
    model = make()
    update = optimizer(model.parameters(), **options)
    schedule = tg.optim.lr_scheduler.StepLR(update, 2, gamma=0.5)
    data = np.random.default_rng(1)

    def step(x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
        update.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        update.step()
        schedule.step()
        return loss

    run = tg.compile(step) if compiled else step
    losses = []
    for _ in range(steps):
        x = tg.from_numpy(data.standard_normal((8, 1, 8, 8), dtype=np.float32))
        losses.append(run(x, tg.from_numpy(data.integers(0, 10, 8))).item())
    return losses, {k: v.numpy(force=True).copy() for k, v in model.state_dict().items()}, run, update


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [(tg.optim.SGD, {"lr": 0.1, "momentum": 0.9}), (tg.optim.Adam, {"lr": 0.01}), (tg.optim.RMSprop, {"lr": 0.01})],
    ids=["sgd", "adam", "rmsprop"],
)
def test_a_training_step_as_a_plan_trains_like_the_step(optimizer: Any, options: dict[str, Any]) -> None:
    """Forward, backward, clipping, update, schedule; batch statistics; dropout's random numbers."""
    expected, state, _, _ = _train(False, network, optimizer, **options)
    losses, plan_state, step, update = _train(True, network, optimizer, **options)
    close(losses, expected)
    assert list(state) == list(plan_state)
    for name, value in state.items():
        close(plan_state[name], value, 1e-4)
    assert len(plans(step)) == 1 and not problems(step)
    assert update.param_groups[0]["lr"] == pytest.approx(options["lr"] / 8)  # three halvings in six steps


def test_gradients_after_a_step_can_be_read_and_kept() -> None:
    layer = nn.Linear(3, 2)

    @tg.compile
    def step(x: tg.Tensor) -> tg.Tensor:
        layer.zero_grad()
        loss = (layer(x) ** 2).sum()
        loss.backward()
        return loss

    kept = []
    for i in range(5):
        x = tg.ones(1, 3) * (i + 1)
        step(x)
        out = layer(x).detach()
        close(layer.weight.grad, (2 * out.T @ x))
        kept.append((layer.weight.grad, layer.weight.grad.numpy().copy()))
    for tensor, values in kept:  # a later step must not write into what was handed out
        np.testing.assert_array_equal(tensor.numpy(), values)


def test_gradients_accumulate_where_the_step_does_not_clear_them() -> None:
    w = tg.ones(3, requires_grad=True)

    @tg.compile
    def step(x: tg.Tensor) -> None:
        (w * x).sum().backward()

    total = np.zeros(3, np.float32)
    for i in range(6):
        x = tg.full((3,), float(i))
        step(x)
        total += i
        np.testing.assert_array_equal(w.grad.numpy(), total)


def test_item_may_be_returned_and_changes_from_call_to_call() -> None:
    @tg.compile
    def mean(x: tg.Tensor) -> float:
        return (x * 2).mean().item()

    for i in range(5):
        value = mean(tg.full((4,), float(i)))
        assert type(value) is float and value == 2.0 * i
    assert len(plans(mean)) == 1


# Modules -------------------------------------------------------------------------------------------------------------


def test_a_compiled_module_is_the_module_with_its_gradients_and_second_derivatives() -> None:
    tg.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    compiled = tg.compile(plain)
    assert isinstance(compiled, nn.Sequential) and list(compiled.state_dict()) == list(plain.state_dict())
    for _ in range(5):
        values = rng.standard_normal((4, 3), dtype=np.float32)
        found = []
        for model in (plain, compiled):
            x = tg.tensor(values, requires_grad=True)
            plain.zero_grad()
            (slope,) = tg.autograd.grad(model(x).sum(), x, create_graph=True)
            ((slope**2).sum() + model(x).sum()).backward()
            found.append([slope.detach(), x.grad, *(p.grad for p in plain.parameters())])
        for expected, got in zip(*found, strict=True):
            close(got, expected)
    assert plans(compiled)


def test_two_calls_of_a_module_before_one_backward() -> None:
    """A siamese network: the second call must not overwrite what the first keeps for its backward."""
    tg.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
    compiled = tg.compile(plain)
    for _ in range(4):
        a, b = image(2, 3), image(2, 3)
        found = []
        for model in (plain, compiled):
            plain.zero_grad()
            (model(a) * model(b)).sum().backward()
            found.append([p.grad for p in plain.parameters()])
        for expected, got in zip(*found, strict=True):
            close(got, expected)


def test_retained_graphs_run_backward_again() -> None:
    layer = nn.Linear(2, 2)
    compiled = tg.compile(layer)
    for _ in range(3):
        layer.zero_grad()
        out = compiled(image(3, 2)).sum()
        out.backward(retain_graph=True)
        once = layer.weight.grad.numpy().copy()
        out.backward()
        close(layer.weight.grad, 2 * once)
        with pytest.raises(RuntimeError, match="retain_graph"):
            out.backward()


def test_training_and_evaluation_mode_have_plans_of_their_own() -> None:
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    compiled = tg.compile(model)
    x = image(64, 4)
    for _ in range(3):
        compiled.train()
        with tg.no_grad():
            dropped = [(compiled(x).numpy() == 0).mean() for _ in range(3)]
        assert 0.3 < np.mean(dropped) < 0.7
        compiled.eval()
        with tg.no_grad():
            for _ in range(3):
                close(compiled(x), model[0](x))


# What a plan relies on -----------------------------------------------------------------------------------------------


def test_other_shapes_dtypes_and_plain_arguments_get_their_own_plan() -> None:
    @tg.compile
    def scaled(x: tg.Tensor, factor: float = 1.0) -> tg.Tensor:
        return (x * factor).sum(0)

    for _ in range(3):
        for shape, dtype, factor in (
            ((3, 2), "float32", 1.0),
            ((5, 2), "float32", 1.0),
            ((3, 2), "float64", 1.0),
            ((3, 2), "float32", 2.5),
        ):
            x = tg.tensor(rng.standard_normal(shape), dtype=dtype)
            out = scaled(x, factor)
            assert out.dtype == x.dtype
            close(out, x.numpy().sum(0) * factor)
    assert len(plans(scaled)) == 4


def test_transposed_and_sliced_arguments_are_read_as_they_lie() -> None:
    compiled = tg.compile(lambda x: tg.exp(x) * 2)
    for _ in range(2):
        base = image(6, 8)
        for x in (base, base.T.contiguous().T, image(12, 16)[::2, ::2], image(1, 8).expand(6, 8)):
            close(compiled(x), np.exp(x.numpy()) * 2)


def test_a_changed_closure_global_attribute_or_parameter_is_noticed() -> None:
    factor = 2.0
    layer = nn.Linear(2, 2)
    layer.gain = 1.0

    @tg.compile
    def function(x: tg.Tensor) -> tg.Tensor:
        return layer(x).detach() * factor * layer.gain * SCALE

    global SCALE
    x = image(3, 2)
    for _ in range(3):
        close(function(x), layer(x).detach().numpy() * factor * layer.gain * SCALE)
    factor = 3.0
    for _ in range(3):
        close(function(x), layer(x).detach().numpy() * 3.0 * layer.gain * SCALE)
    layer.gain = 0.5
    for _ in range(3):
        close(function(x), layer(x).detach().numpy() * 3.0 * 0.5 * SCALE)
    SCALE = 7.0
    for _ in range(3):
        close(function(x), layer(x).detach().numpy() * 3.0 * 0.5 * 7.0)
    layer.weight = nn.Parameter(tg.ones(2, 2))
    for _ in range(3):
        close(function(x), layer(x).detach().numpy() * 3.0 * 0.5 * 7.0)
    layer.weight.data = tg.zeros(2, 2)
    for _ in range(3):
        close(function(x), layer(x).detach().numpy() * 3.0 * 0.5 * 7.0)
    SCALE = 1.0


SCALE = 1.0


def test_weights_loaded_between_calls_are_used() -> None:
    layer = nn.Linear(2, 2)
    compiled = tg.compile(layer)
    x = image(3, 2)
    with tg.no_grad():
        for value in (1.0, 2.0, 3.0, 4.0, 5.0):
            layer.load_state_dict({"weight": np.full((2, 2), value, np.float32), "bias": np.zeros(2, np.float32)})
            close(compiled(x), x.numpy().sum(1, keepdims=True).repeat(2, 1) * value, 1e-4)


def test_labels_out_of_range_raise_in_a_plan_too() -> None:
    compiled = tg.compile(lambda x, y: nn.functional.cross_entropy(x, y))
    for _ in range(3):
        compiled(image(4, 10), labels(4))
    with pytest.raises(IndexError, match="cross_entropy"):
        compiled(image(4, 10), tg.tensor([1, 2, 3, 10]))


def test_infinities_stay_where_they_are_in_a_plan_too() -> None:
    """Winograd tiles would spread an infinity over their outputs: the choice to convolve directly is made anew in every call."""
    tg.manual_seed(0)
    layer = nn.Conv2d(32, 32, 3, padding=1)
    compiled = tg.compile(layer)
    with tg.no_grad():
        for value in (1.0, 1.0, 1.0, np.inf, 2.0):
            x = image(4, 32, 32, 32)
            x[0, 0, 5, 5] = value
            got, expected = compiled(x).numpy(), layer(x).numpy()
            assert np.array_equal(np.isfinite(got), np.isfinite(expected))
            np.testing.assert_array_equal(got, expected)
    assert plans(compiled)


def test_probabilities_out_of_range_raise_in_a_plan_too() -> None:
    compiled = tg.compile(nn.functional.binary_cross_entropy)
    for _ in range(3):
        compiled(tg.rand(4), tg.rand(4))
    assert plans(compiled)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        compiled(tg.tensor([0.1, 0.2, 0.3, 1.5]), tg.rand(4))


# What cannot be a plan -----------------------------------------------------------------------------------------------


def _conditional(x: tg.Tensor) -> tg.Tensor:
    return x * 2 if x.sum() > 0 else x * 3


def test_a_condition_on_values_runs_as_it_is_and_says_so_once() -> None:
    compiled = tg.compile(_conditional)
    with pytest.warns(
        RuntimeWarning, match=r"_conditional runs as it is: the values of a tensor go to a Python condition \(test_compile"
    ):
        compiled(tg.ones(2))
    for value in (1.0, -1.0, 2.0, -2.0):
        x = tg.full((2,), value)
        close(compiled(x), _conditional(x))
    with pytest.raises(RuntimeError, match="cannot become one plan"):
        tg.compile(_conditional, fullgraph=True)(tg.ones(2))


def test_modules_of_a_function_that_cannot_be_a_plan_are_compiled_by_themselves() -> None:
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

    @tg.compile
    def step(x: tg.Tensor) -> float:
        model.zero_grad()
        loss = model(x).pow(2).mean()
        if loss.item() > 1e9:
            raise RuntimeError("diverged")
        loss.backward()
        return float(loss)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(5):
            x = image(4, 3)
            value = step(x)
            gradient = model[0].weight.grad.numpy().copy()
            model.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            close(value, loss.item())
            close(gradient, model[0].weight.grad)
    (part,) = tg.compile.explain(step).parts
    assert part.name == "Sequential" and len(part.plans) == 1


def test_what_is_kept_outside_of_the_call_is_noticed() -> None:
    history: list[Any] = []

    def keeps_tensor(x: tg.Tensor) -> tg.Tensor:
        y = x * 2
        history.append(y)
        return y + 1

    def keeps_number(x: tg.Tensor) -> tg.Tensor:
        history.append(x.sum().item())
        return x + 1

    def counts(x: tg.Tensor) -> tg.Tensor:
        history.append(None)
        return x * len(history)

    for function in (keeps_tensor, keeps_number, counts):
        history.clear()
        compiled = tg.compile(function)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            for i in range(6):
                out = compiled(tg.ones(2))
                assert len(history) == i + 1
                if function is counts:
                    close(out, [i + 1.0] * 2)
        assert problems(compiled) and not plans(compiled)


def test_random_numbers_are_drawn_as_without_a_plan() -> None:
    def noisy(x: tg.Tensor) -> tg.Tensor:
        return x + tg.randn(3) * tg.rand(3)

    compiled = tg.compile(noisy)
    tg.manual_seed(5)
    expected = [noisy(tg.ones(3)).numpy() for _ in range(5)]
    tg.manual_seed(5)
    for e in expected:
        close(compiled(tg.ones(3)), e)
    assert plans(compiled)


def test_writes_in_place_to_state_are_done_by_the_plan() -> None:
    class Average(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", tg.zeros(2))

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            with tg.no_grad():
                self.mean.mul_(0.5).add_(x.mean(0))
            return x - self.mean

    plain, module = Average(), Average()
    compiled = tg.compile(module)
    for _ in range(5):
        x = image(3, 2)
        close(compiled(x), plain(x))
        close(module.mean, plain.mean)
    assert plans(compiled)


# Less to do ----------------------------------------------------------------------------------------------------------


def test_equal_and_unneeded_operators_are_left_out_and_chains_become_one_loop() -> None:
    @tg.compile
    def function(x: tg.Tensor) -> tg.Tensor:
        unneeded = tg.exp(x) + 3  # noqa: F841
        a = tg.sigmoid(x) * 2 + x
        b = tg.sigmoid(x) * 2 - 1
        return tg.tanh(a * b)

    for _ in range(4):
        x = image(40, 50)
        s = 1 / (1 + np.exp(-x.numpy().astype(np.float64)))
        close(function(x), np.tanh((2 * s + x.numpy()) * (2 * s - 1)))
    (plan,) = plans(function)
    assert plan.recorded == 10 and plan.shared == 2 and plan.dead == 2
    loops = [s for s in plan.steps if s.how == "loop"]
    assert len(loops) == 1 and len(loops[0].operators) == 6
    assert {n.scope for n in plan.graph if n.kind == "operator"} == {"loop 0"}
    assert all(f"test_compile.py:{line}" in loops[0].source for line in (loops[0].lines[0].split(":")[1],))


def test_a_relu_is_done_by_the_convolution_or_product_before_it() -> None:
    tg.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 7), nn.ReLU(), nn.Linear(7, 3))
    compiled = tg.compile(plain)
    for _ in range(4):
        x = image(3, 2, 6, 6)
        found = []
        for model in (plain, compiled):
            plain.zero_grad()
            out = model(x)
            (out * out).sum().backward()
            found.append([out.detach(), *(p.grad for p in plain.parameters())])
        for expected, got in zip(*found, strict=True):
            close(got, expected)
    (plan,) = plans(compiled)
    assert {s.operators for s in plan.steps if "relu" in s.operators} == {("conv2d", "relu"), ("linear", "relu")}


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 5), (4, 5)),
        ((4, 5), (5,)),
        ((4, 5), (4, 1)),
        ((2, 3, 4, 5), (3, 1, 1)),
        ((2, 3, 4), (2, 1, 4)),
        ((3, 1), (1, 4)),
        ((), (7,)),
    ],
    ids=str,
)
def test_loops_over_broadcast_operands(shapes: Any) -> None:
    @tg.compile
    def function(a: tg.Tensor, b: tg.Tensor) -> tg.Tensor:
        return tg.tanh(a * b + 1) - b

    for _ in range(4):
        a, b = (image(*s) for s in shapes)
        u, v = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
        close(function(a, b), np.tanh(u * v + 1) - v)
    assert plans(function)


def test_masks_are_part_of_loops_and_dtypes_are_not_mixed_in_one() -> None:
    @tg.compile
    def function(x: tg.Tensor, y: tg.Tensor) -> Any:
        mask = (x > 0.5) | (x < -0.5)
        return tg.where(mask, x * 2, -x), tg.where(mask, y + 1, y), mask & (y > 0)

    for _ in range(4):
        x, y = image(6, 7), image(6, 7).double()
        u, v = x.numpy(), y.numpy()
        mask = (u > 0.5) | (u < -0.5)
        a, b, c = function(x, y)
        np.testing.assert_array_equal(a.numpy(), np.where(mask, u * 2, -u))
        np.testing.assert_array_equal(b.numpy(), np.where(mask, v + 1, v))
        np.testing.assert_array_equal(c.numpy(), mask & (v > 0))
        assert (a.dtype, b.dtype, c.dtype) == (x.dtype, y.dtype, np.bool_)


@pytest.mark.parametrize("shape", [(7,), (5, 3), (300, 41), (3, 5, 70), (100_003,)], ids=str)
@pytest.mark.parametrize("dim", [None, -1, (-2, -1), 0], ids=str)
def test_loops_that_end_in_a_sum(shape: Any, dim: Any) -> None:
    if dim == (-2, -1) and len(shape) < 2:
        pytest.skip("two axes are summed")

    @tg.compile
    def function(x: tg.Tensor) -> tg.Tensor:
        y = tg.sigmoid(x) * x + 1
        return tg.sum(y, dim) + 0.0, (y * 2).mean(dim, keepdim=True)

    for _ in range(4):
        x = image(*shape)
        v = x.numpy().astype(np.float64)
        total, mean = function(x)
        y = v / (1 + np.exp(-v)) + 1
        np.testing.assert_allclose(total.numpy(), y.sum(dim), rtol=2e-6, atol=1e-5 * y[..., 0].size ** 0)
        np.testing.assert_allclose(mean.numpy(), 2 * y.mean(dim, keepdims=True), rtol=2e-6, atol=1e-6)
    assert plans(function)


def test_a_chain_and_its_sum_are_one_loop_with_the_same_bits_on_any_number_of_threads() -> None:
    function = lambda x: (tg.tanh(x * 1.5) + tg.exp(-x) * x).sum()  # noqa: E731
    x = image(200, 300)
    results = []
    for threads in (1, 2):
        before = tg.get_num_threads()
        tg.set_num_threads(threads)
        try:
            compiled = tg.compile(function)
            for _ in range(3):
                out = compiled(x)
            results.append(out.item())
        finally:
            tg.set_num_threads(before)
        (plan,) = plans(compiled)
        (loop,) = (s for s in plan.steps if s.how == "loop")
        assert loop.operators[-1] == "sum" and len(loop.operators) == 7
    assert results[0] == results[1]


def test_memory_is_shared_by_values_that_do_not_live_at_the_same_time() -> None:
    @tg.compile
    def chain(x: tg.Tensor) -> tg.Tensor:
        for _ in range(8):
            x = tg.softmax(x, 1)
        return x

    for _ in range(3):
        chain(image(64, 64))
    (plan,) = plans(chain)
    assert plan.unshared >= 8 * 64 * 64 * 4 and plan.memory <= 3 * 64 * 64 * 4


def test_explain_says_what_became_of_a_function() -> None:
    compiled = tg.compile(network().eval())
    with tg.no_grad():
        for _ in range(3):
            compiled(image(2, 1, 8, 8))
    text = str(tg.compile.explain(compiled))
    assert "1 plan" in text and "conv2d" in text and "memory" in text
    graph = plans(compiled)[0].graph
    first = next(n for n in graph if n.kind == "operator")
    assert first.op == "conv2d" and "free after step" in first.attributes["memory"]
    assert tg.viz.draw(graph).node_count == len(graph)
    with pytest.raises(TypeError, match=r"tg\.compile returned"):
        tg.compile.explain(print)


def test_errors_of_the_function_come_through_and_leave_nothing_behind() -> None:
    @tg.compile
    def function(x: tg.Tensor) -> tg.Tensor:
        if x.shape[0] == 3:
            raise KeyError("three")
        return x * 2

    with pytest.raises(KeyError, match="three"):
        function(tg.ones(3))
    for _ in range(3):
        close(function(tg.ones(2)), [2.0, 2.0])
    with pytest.raises(TypeError, match="compile: expected a function"):
        tg.compile(3)
