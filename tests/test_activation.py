"""Activations against PyTorch, their values at the kinks, and what a user relies on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from torch_comparison import compare_with_torch, reports_to

import tinygrad_cv as tg
from tinygrad_cv.domain import NumpyDraw

PLAIN = (
    "relu leaky_relu prelu elu selu celu gelu silu mish softplus softsign hardtanh hardsigmoid hardswish relu6 threshold "
    "softmax log_softmax softmin logsigmoid glu tanhshrink softshrink hardshrink"
).split()
INPLACE = "relu leaky_relu elu selu celu silu mish hardtanh hardsigmoid hardswish relu6".split()
SPECIAL = (0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 0.5, -0.5, 20.0, 100.0, -100.0, 1e30, -1e30, math.inf, -math.inf, math.nan)


@pytest.mark.parametrize("name", PLAIN)
def test_values_and_derivatives_agree_with_pytorch(name):
    rng = np.random.default_rng(2)
    for seed in range(12):
        compare_with_torch(name, tg.ops.get(name).domain(NumpyDraw(seed)), rng)


@pytest.mark.parametrize(
    "name", [n for n in PLAIN if n not in ("prelu", "threshold", "softmax", "log_softmax", "softmin", "glu")]
)
def test_values_and_gradients_at_kinks_and_extremes_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    x = tg.tensor(SPECIAL, dtype="float64", requires_grad=True)
    y = torch.tensor(SPECIAL, dtype=torch.float64, requires_grad=True)
    out, expected = getattr(tg, name)(x), getattr(torch.nn.functional, name)(y)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    out.backward(tg.ones_like(out))
    expected.backward(torch.ones_like(expected))
    usual = np.isfinite(SPECIAL) | (name not in ("elu", "selu", "celu", "softsign"))  # there PyTorch gives 1 at NaN, NaN at inf
    np.testing.assert_allclose(x.grad.numpy()[usual], y.grad.numpy()[usual], rtol=2e-7, atol=1e-30)


def test_gradients_at_the_kink_are_the_documented_ones():
    for name, arguments, location, slope in [
        ("relu", (), 0.0, 0.0), ("leaky_relu", (0.2,), 0.0, 0.2), ("elu", (2.0,), 0.0, 2.0), ("celu", (2.0,), 0.0, 1.0),
        ("relu6", (), 6.0, 0.0), ("hardtanh", (-2.0, 3.0), 3.0, 0.0), ("threshold", (1.0, 5.0), 1.0, 0.0),
        ("hardswish", (), 3.0, 1.0), ("hardsigmoid", (), -3.0, 0.0), ("softshrink", (0.5,), 0.5, 0.0),
    ]:  # fmt: skip
        x = tg.tensor([location], requires_grad=True)
        getattr(tg, name)(x, *arguments).backward(tg.ones(1))
        assert x.grad.item() == pytest.approx(slope), name


@pytest.mark.parametrize("name", INPLACE)
def test_the_inplace_flag_writes_into_the_input_and_keeps_the_gradient(name):
    values = [-4.0, -1.5, -0.3, 0.2, 1.5, 7.0]
    leaf = tg.tensor(values, dtype="float64", requires_grad=True)
    (expected,) = tg.autograd.grad(getattr(tg, name)(leaf), leaf, tg.ones(6, dtype="float64"))
    hidden = leaf * 1.0
    out = getattr(tg, name)(hidden, inplace=True)
    assert out is hidden
    np.testing.assert_array_equal(out.detach().numpy(), getattr(tg, name)(leaf.detach()).numpy())
    out.backward(tg.ones(6, dtype="float64"))
    np.testing.assert_allclose(leaf.grad.numpy(), expected.numpy(), rtol=1e-12)
    with pytest.raises(RuntimeError, match="leaf tensor that requires grad"):
        getattr(tg, name)(leaf, inplace=True)


@pytest.mark.parametrize("name", [n for n in PLAIN if n not in ("prelu", "threshold", "softsign", "tanhshrink")])
def test_dtypes_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    arguments = (0,) if name in ("softmax", "log_softmax", "softmin", "glu") else ()
    for dtype in ("bool", "int64", "float16", "float32", "float64"):
        values = np.array([1, 0, 1, 1], dtype)
        expected = reports_to((RuntimeError, TypeError), getattr(torch.nn.functional, name), torch.tensor(values), *arguments)
        got = reports_to((RuntimeError, TypeError), getattr(tg, name), tg.tensor(values), *arguments)
        if isinstance(expected, Exception):
            assert isinstance(got, TypeError) and str(got).startswith(name), (name, dtype, got)
        else:
            assert not isinstance(got, Exception), (name, dtype, got)
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol=3e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_softmax_family_is_stable_and_takes_dtype(name):
    torch = pytest.importorskip("torch")
    function, theirs = getattr(tg, name), getattr(torch.nn.functional, name)
    for row in ([1e4, 1e4 + 1, -1e4], [-math.inf, 0.0, 1.0], [-math.inf] * 3, [math.inf, 0.0, 1.0], [math.nan, 0.0, 1.0]):
        np.testing.assert_allclose(
            function(tg.tensor(row), 0).numpy(), theirs(torch.tensor(row), dim=0).numpy(), rtol=1e-6, err_msg=str(row)
        )
    x = tg.tensor([1, 2, 3])
    assert function(x, dim=0, dtype=tg.float64).dtype == tg.float64
    np.testing.assert_allclose(
        function(x, 0, dtype="float64").numpy(), theirs(torch.arange(1, 4), 0, dtype=torch.float64).numpy()
    )
    with pytest.raises(TypeError, match=f"^{name}: expected a floating tensor"):
        function(x, 0)
    with pytest.raises(IndexError, match=rf"^{name}: dim 2 .*\(2, 3\)"):
        function(tg.ones(2, 3), 2)
    with pytest.warns(UserWarning, match="pass dim"):
        np.testing.assert_allclose(
            function(tg.ones(2, 4)).exp().sum(1).numpy(), function(tg.ones(2, 4), 1).exp().sum(1).numpy()
        )
    assert function(tg.ones(2, 0), 1).shape == (2, 0)
    assert function(tg.tensor(3.0), 0).shape == ()
    leaf = tg.ones(2, 3).requires_grad_()
    function(leaf, 1, dtype=tg.float64).sum().backward()
    assert leaf.grad.dtype == tg.float32


def test_softmax_rows_sum_to_one_and_its_gradient_to_zero():
    x = tg.tensor(np.random.default_rng(0).standard_normal((4, 5)), dtype="float64", requires_grad=True)
    out = x.softmax(1)
    np.testing.assert_allclose(out.sum(1).detach().numpy(), np.ones(4))
    (out * tg.tensor(np.arange(20.0).reshape(4, 5), dtype="float64")).sum().backward()
    np.testing.assert_allclose(x.grad.sum(1).numpy(), np.zeros(4), atol=1e-12)


def test_prelu_has_a_weight_for_each_channel():
    x = -tg.ones(2, 3, 2, 2)
    weight = tg.tensor([0.1, 0.2, 0.3], requires_grad=True)
    out = tg.prelu(x, weight)
    np.testing.assert_allclose(out.detach().numpy()[1, :, 0, 1], [-0.1, -0.2, -0.3], rtol=1e-6)
    out.sum().backward()
    assert weight.grad.tolist() == [-8.0, -8.0, -8.0]
    with pytest.raises(
        ValueError, match=r"^prelu: input of shape \(2, 3, 2, 2\) needs weights of shape \(1,\) or \(3,\), got \(2,\)"
    ):
        tg.prelu(x, tg.ones(2))


def test_maxout_takes_the_largest_of_neighbouring_channels():
    x = tg.tensor(np.arange(12.0).reshape(1, 6, 2), requires_grad=True)
    out = tg.maxout(x, 3)
    assert out.tolist() == [[[4.0, 5.0], [10.0, 11.0]]]
    out.sum().backward()
    assert x.grad.sum().item() == 4.0 and x.grad[0, 2].tolist() == [1.0, 1.0]
    assert tg.maxout(tg.tensor([[3.0, 1.0], [2.0, 5.0]]), 2, dim=0).tolist() == [[3.0, 5.0]]
    with pytest.raises(ValueError, match=r"^maxout: pool_size 4 .*size 6 of axis 1"):
        tg.maxout(x, 4)


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (ValueError, lambda: tg.gelu(tg.ones(1), "fast"), "gelu: approximate .*'fast'"),
        (ValueError, lambda: tg.glu(tg.ones(3)), r"glu: axis -1 of shape \(3,\) has odd size 3"),
        (IndexError, lambda: tg.glu(tg.ones(4), 1), "glu: dim 1"),
        (ValueError, lambda: tg.hardtanh(tg.ones(1), 1.0, -1.0), "hardtanh: min_val"),
        (ValueError, lambda: tg.celu(tg.ones(1), 0.0), "celu: alpha"),
        (ValueError, lambda: tg.softshrink(tg.ones(1), -1.0), "softshrink: lambd"),
        (TypeError, lambda: tg.elu(tg.tensor([1])), "elu: expected a floating tensor, got int64"),
    ],
)
def test_errors_name_the_operator_and_say_what_is_wrong(error, call, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_saturated_activations_keep_finite_derivatives_of_both_orders():
    for name in ("elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "logsigmoid", "sigmoid", "tanh"):
        x = tg.tensor([-1e3, -50.0, 50.0, 1e3], requires_grad=True)
        (first,) = tg.autograd.grad(getattr(tg, name)(x), x, tg.ones(4), create_graph=True)
        (second,) = tg.autograd.grad(first, x, tg.ones(4))
        assert np.isfinite(first.detach().numpy()).all() and np.isfinite(second.numpy()).all(), name
