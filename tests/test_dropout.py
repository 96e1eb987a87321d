"""Dropout: what is dropped, how the rest is scaled, what one seed fixes."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import kernels

ALL = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
SHAPES = {"dropout": (40, 50), "dropout1d": (40, 50, 3), "dropout2d": (40, 50, 3, 2), "dropout3d": (40, 50, 2, 3, 2),
          "alpha_dropout": (40, 50), "feature_alpha_dropout": (40, 50, 3, 2)}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_evaluation_and_p_zero_are_the_identity(name):
    x = tg.randn(*SHAPES[name])
    assert np.array_equal(getattr(tg, name)(x, 0.7, training=False).numpy(), x.numpy())
    assert np.array_equal(getattr(tg, name)(x, 0.0, training=True).numpy(), x.numpy())


@pytest.mark.parametrize("name", ALL)
def test_p_one_gives_zeros_and_a_zero_gradient(name):
    x = tg.randn(*SHAPES[name]).requires_grad_()
    out = getattr(tg, name)(x, 1.0, training=True)
    out.sum().backward()
    assert not out.detach().numpy().any() and not x.grad.numpy().any()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_p_outside_the_unit_interval_is_refused(name, p):
    with pytest.raises(ValueError, match=rf"^{name}: .*\[0, 1\]"):
        getattr(tg, name)(tg.ones(*SHAPES[name]), p)


@pytest.mark.parametrize("name", ALL)
def test_one_seed_fixes_the_mask(name):
    x = tg.ones(*SHAPES[name])
    results = []
    for seed in (3, 3, 4):
        tg.manual_seed(seed)
        results.append(getattr(tg, name)(x, 0.5, training=True).numpy())
    assert np.array_equal(results[0], results[1]) and not np.array_equal(results[0], results[2])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_zeroes_a_share_p_and_scales_the_rest(p):
    out = tg.dropout(tg.ones(200, 500), p).numpy()
    kept = out != 0
    assert abs(kept.mean() - (1 - p)) < 4 * np.sqrt(p * (1 - p) / out.size)  # four standard deviations
    np.testing.assert_allclose(out[kept], 1 / (1 - p), rtol=1e-6)


def test_neighbouring_elements_are_dropped_independently():
    kept = (tg.dropout(tg.ones(400, 500), 0.5).numpy() != 0).astype(float)
    for shifted in (kept[:, 1:], kept[:, 2:]):
        together = kept[:, : shifted.shape[1]]
        assert abs(np.corrcoef(together.ravel(), shifted.ravel())[0, 1]) < 0.01


def test_the_gradient_passes_where_the_value_did():
    x = tg.randn(30, 40).requires_grad_()
    out = tg.dropout(x, 0.25)
    out.backward(tg.full((30, 40), 2.0))
    kept = out.detach().numpy() != 0
    np.testing.assert_allclose(x.grad.numpy(), np.where(kept, 2 / 0.75, 0), rtol=1e-6)


@pytest.mark.parametrize("name", ["dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"])
def test_whole_channels_are_dropped(name):
    out = getattr(tg, name)(tg.ones(*SHAPES[name]), 0.5, training=True).numpy().reshape(40, 50, -1)
    assert (out == out[:, :, :1]).all()
    assert 0.4 < (out[:, :, 0] == out.max()).mean() < 0.6


def test_channel_dropout_without_a_batch_axis():
    for name, shape in (("dropout1d", (50, 4)), ("dropout3d", (50, 2, 2, 2))):
        out = getattr(tg, name)(tg.ones(*shape), 0.5).numpy().reshape(50, -1)
        assert (out == out[:, :1]).all() and 5 < (out[:, 0] == 0).sum() < 45
    for name, shape in (("dropout1d", (4,)), ("dropout2d", (4, 4)), ("dropout3d", (4, 4, 4))):
        with pytest.raises(ValueError, match=f"^{name}: expected an input of .* axes"):
            getattr(tg, name)(tg.ones(*shape))


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
def test_alpha_dropout_keeps_mean_and_variance(name):
    x = tg.randn(2000, 200)
    out = getattr(tg, name)(x, 0.3, training=True).numpy()
    assert abs(out.mean()) < 0.02 and abs(out.var() - 1) < 0.02


def test_alpha_dropout_is_off_unless_asked_for():
    x = tg.randn(5)
    assert np.array_equal(tg.alpha_dropout(x, 0.5).numpy(), x.numpy())


@pytest.mark.parametrize("name", ALL)
def test_inplace_writes_into_the_input(name):
    x = tg.ones(*SHAPES[name])
    tg.manual_seed(1)
    expected = getattr(tg, name)(x, 0.5, training=True).numpy()
    tg.manual_seed(1)
    out = getattr(tg, name)(x, 0.5, training=True, inplace=True)
    assert out is x and np.array_equal(x.numpy(), expected)


def test_dropout_of_integers_and_of_nothing():
    with pytest.raises(TypeError, match="dropout: expected a floating tensor, got int64"):
        tg.dropout(tg.ones(3, dtype="int64"))
    assert tg.dropout(tg.zeros(0, 3)).shape == (0, 3)
    assert tg.dropout(tg.ones(3, dtype="float64")).dtype == tg.float64


@pytest.mark.parametrize("dtype", [tg.float32, tg.float64])
@pytest.mark.parametrize("size", [4096, 4097, 5001, 70_001])
@pytest.mark.parametrize("drawn_before", [0, 1, 3, 4, 6])
def test_the_kernel_drops_what_the_reference_drops_and_leaves_the_generator_where_it_does(size, drawn_before, dtype):
    x, most, results = tg.arange(1, size + 1, dtype=dtype), tg.get_num_threads(), []
    for context, n in ((kernels.disabled(), most), (contextlib.nullcontext(), 1), (contextlib.nullcontext(), most)):
        tg.manual_seed(7)
        tg.random.numpy_generator().bit_generator.random_raw(drawn_before)
        tg.set_num_threads(n)
        try:
            with context:
                out = tg.dropout(x, 0.3).numpy()
        finally:
            tg.set_num_threads(most)
        results.append((out, tg.get_rng_state(), tg.rand(5).numpy()))
    for out, state, following in results[1:]:
        assert np.array_equal(out, results[0][0]) and state == results[0][1] and np.array_equal(following, results[0][2])
