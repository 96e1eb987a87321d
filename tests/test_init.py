"""nn.init: distributions, fans, gains, and the structure of the deterministic ones."""

import math

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn
from tinygrad_cv.nn import init


def weight(*shape, dtype=tg.float32):
    return nn.Parameter(tg.zeros(*shape, dtype=dtype))


def moments(tensor):
    values = tensor.detach().numpy().astype(np.float64)
    return values.mean(), values.var()


def check_uniform(tensor, low, high):
    values = tensor.detach().numpy().astype(np.float64).ravel()
    mean, variance = (low + high) / 2, (high - low) ** 2 / 12
    slack = 1e-6 * (high - low)
    assert values.min() >= low - slack and values.max() <= high + slack
    assert abs(values.mean() - mean) < 5 * math.sqrt(variance / values.size)
    assert abs(values.var() / variance - 1) < 5 * math.sqrt(0.8 / values.size)
    assert values.min() < low + 0.02 * (high - low) and values.max() > high - 0.02 * (high - low)


def check_normal(tensor, mean, std):
    values = (tensor.detach().numpy().astype(np.float64).ravel() - mean) / std
    n = values.size
    assert abs(values.mean()) < 5 / math.sqrt(n)
    assert abs(values.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((values**4).mean() - 3) < 5 * math.sqrt(96 / n)


@pytest.mark.parametrize("name, param, expected", [
    ("linear", None, 1), ("conv2d", None, 1), ("sigmoid", None, 1), ("tanh", None, 5 / 3), ("relu", None, math.sqrt(2)),
    ("leaky_relu", None, math.sqrt(2 / 1.0001)), ("leaky_relu", 0.5, math.sqrt(1.6)), ("selu", None, 0.75),
])  # fmt: skip
def test_gain(name, param, expected):
    assert init.calculate_gain(name, param) == pytest.approx(expected, rel=1e-15)


def test_gain_of_the_unknown_raises():
    with pytest.raises(ValueError, match="unknown nonlinearity 'cube'"):
        init.calculate_gain("cube")
    with pytest.raises(ValueError, match="slope"):
        init.calculate_gain("leaky_relu", "steep")


def test_fans_count_the_inputs_and_outputs_of_a_unit():
    assert init.calculate_fan_in_and_fan_out(weight(8, 3)) == (3, 8)
    assert init.calculate_fan_in_and_fan_out(weight(8, 3, 5, 2)) == (30, 80)
    with pytest.raises(ValueError, match=r"at least 2 axes, got shape \(3,\)"):
        init.xavier_uniform_(weight(3))


def test_constants():
    w = weight(2, 3)
    assert init.constant_(w, 0.5) is w and w.tolist() == [[0.5] * 3] * 2
    assert init.ones_(w).tolist() == [[1] * 3] * 2 and init.zeros_(w).tolist() == [[0] * 3] * 2
    assert init.eye_(w).tolist() == [[1, 0, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match="expected a matrix"):
        init.eye_(weight(2))


@pytest.mark.parametrize("dtype", [tg.float32, tg.float64])
def test_uniform_and_normal(dtype):
    check_uniform(init.uniform_(weight(100, 200, dtype=dtype), -2, 5), -2, 5)
    check_normal(init.normal_(weight(100, 200, dtype=dtype), 3, 0.5), 3, 0.5)
    with pytest.raises(ValueError, match="a must not be above b"):
        init.uniform_(weight(1), 1, 0)
    with pytest.raises(ValueError, match="std"):
        init.normal_(weight(1), 0, -1)


def test_xavier_bounds_are_glorots():
    """Glorot & Bengio 2010, eq. 16: U[-sqrt(6 / (n_in + n_out)), ...]; eq. 12: variance 2 / (n_in + n_out)."""
    r = 2 * math.sqrt(6 / (90 + 180))
    check_uniform(init.xavier_uniform_(weight(20, 10, 3, 3), gain=2), -r, r)
    check_normal(init.xavier_normal_(weight(200, 100)), 0, math.sqrt(2 / 300))


def test_kaiming_deviations_are_hes():
    """He et al. 2015: standard deviation sqrt(2 / ((1 + a^2) n))."""
    r = math.sqrt(3) * math.sqrt(2 / 90)
    check_uniform(init.kaiming_uniform_(weight(50, 10, 3, 3)), -r, r)
    check_normal(init.kaiming_normal_(weight(200, 100), mode="fan_out", nonlinearity="relu"), 0, math.sqrt(2 / 200))
    check_normal(init.kaiming_normal_(weight(200, 100), a=0.5), 0, math.sqrt(2 / 1.25 / 100))
    check_uniform(init.kaiming_uniform_(weight(300, 50), a=math.sqrt(5)), -1 / math.sqrt(50), 1 / math.sqrt(50))
    with pytest.raises(ValueError, match="mode must be 'fan_in' or 'fan_out'"):
        init.kaiming_normal_(weight(2, 2), mode="fan")


def test_truncated_normal_matches_the_distribution_function():
    """Kolmogorov-Smirnov distance to the exact conditional distribution, also where the interval lies in a tail."""

    def phi(x):
        return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in np.atleast_1d(x)])

    for mean, std, a, b in ((0, 1, -2, 2), (1, 0.5, 0, 1.2), (0, 1, 3, 5), (0, 1, -7, -6)):
        values = np.sort(init.trunc_normal_(weight(4000, dtype=tg.float64), mean, std, a, b).detach().numpy())
        assert values[0] >= a and values[-1] <= b
        low, high = (phi((edge - mean) / std)[0] if a < mean else phi((mean - edge) / std)[0] for edge in (a, b))
        at = phi((values - mean) / std) if a < mean else phi((mean - values) / std)
        exact = (at - low) / (high - low)
        assert np.abs(exact - (np.arange(4000) + 0.5) / 4000).max() < 1.95 / math.sqrt(4000)
    with pytest.raises(ValueError, match="a < b"):
        init.trunc_normal_(weight(1), a=1, b=1)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (3, 2, 2, 2)])
def test_orthogonal_rows_or_columns(shape):
    w = init.orthogonal_(weight(*shape, dtype=tg.float64), gain=2).detach().numpy().reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_is_uniform_over_the_orthogonal_group():
    """Under the Haar measure E[trace] = 0 and E[trace^2] = 1; a bare QR factorisation fails this."""
    traces = np.array([np.trace(init.orthogonal_(weight(4, 4, dtype=tg.float64)).detach().numpy()) for _ in range(2000)])
    assert abs(traces.mean()) < 0.1 and abs((traces**2).mean() - 1) < 0.15


def test_sparse_has_the_share_of_zeros_in_every_column():
    w = init.sparse_(weight(50, 40), 0.23, std=0.1).detach().numpy()
    assert ((w == 0).sum(0) == math.ceil(0.23 * 50)).all()
    assert abs(w[w != 0].std() - 0.1) < 0.01
    assert len({tuple(column == 0) for column in w.T}) > 30
    with pytest.raises(ValueError, match="expected a matrix"):
        init.sparse_(weight(2), 0.5)


def test_dirac_passes_the_input_through():
    conv = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    init.dirac_(conv.weight)
    x = tg.randn(2, 3, 4, 4)
    out = conv(x).detach().numpy()
    np.testing.assert_allclose(out[:, :3], x.numpy(), atol=1e-6)
    assert not out[:, 3:].any()
    grouped = nn.Conv1d(4, 4, 3, padding=1, groups=2, bias=False)
    init.dirac_(grouped.weight, groups=2)
    y = tg.randn(1, 4, 6)
    np.testing.assert_allclose(grouped(y).detach().numpy(), y.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="3, 4 or 5 axes"):
        init.dirac_(weight(2, 2))
    with pytest.raises(ValueError, match="groups=3"):
        init.dirac_(weight(4, 2, 3), groups=3)


def test_seed_fixes_everything_and_a_generator_is_a_stream_of_its_own():
    names = (
        "uniform_",
        "normal_",
        "trunc_normal_",
        "xavier_uniform_",
        "xavier_normal_",
        "kaiming_uniform_",
        "kaiming_normal_",
        "orthogonal_",
    )
    runs = []
    for _ in range(2):
        tg.manual_seed(7)
        runs.append(
            [getattr(init, n)(weight(4, 3)).detach().numpy().copy() for n in names]
            + [init.sparse_(weight(4, 3), 0.5).detach().numpy()]
        )
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)
    state = tg.get_rng_state()
    a = init.normal_(weight(5), generator=tg.Generator(1)).tolist()
    assert a == init.normal_(weight(5), generator=tg.Generator(1)).tolist() and tg.get_rng_state() == state


def test_values_of_a_graph_that_is_still_needed_are_not_silently_changed():
    w = weight(3)
    out = (w * w).sum()
    init.ones_(w)
    with pytest.raises(RuntimeError, match="in-place write"):
        out.backward()
    assert w.requires_grad and w.is_leaf
