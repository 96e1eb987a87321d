"""Random fills in place: the distributions, the seed, and the rules of in-place writes."""

import numpy as np
import pytest

import tinygrad_cv as tg

EULER = 0.5772156649015329


@pytest.fixture(autouse=True)
def seeded():
    tg.manual_seed(0)


@pytest.mark.parametrize(("fill", "mean", "deviation", "low", "high"), [
    (lambda x: x.uniform_(-1, 3), 1.0, 4 / 12**0.5, -1.0, 3.0),
    (lambda x: x.normal_(2, 3), 2.0, 3.0, -np.inf, np.inf),
    (lambda x: x.log_normal_(0.5, 0.25).log(), 0.5, 0.25, -np.inf, np.inf),
    (lambda x: x.exponential_(2), 0.5, 0.5, 1e-300, np.inf),
    (lambda x: x.exponential_().log(), -EULER, np.pi / 6**0.5, -np.inf, np.inf),
    (lambda x: x.cauchy_(1, 2).sub(1).div(2).atan(), 0.0, np.pi / 12**0.5, -np.pi / 2, np.pi / 2),
    (lambda x: x.geometric_(0.25), 4.0, 12**0.5, 1, np.inf),
    (lambda x: x.bernoulli_(0.3), 0.3, 0.21**0.5, 0, 1),
    (lambda x: x.random_(-3, 4), 0.0, 2.0, -3, 3),
    (lambda x: x.random_(5), 2.0, 2**0.5, 0, 4),
    (lambda x: x.random_(), 2**23, 2**24 / 12**0.5, 0, 2**24),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [tg.float32, tg.float64])
def test_moments_and_bounds(fill, mean, deviation, low, high, dtype):
    if mean == 2**23 and dtype == tg.float64:
        mean, deviation, high = 2**52, 2**53 / 12**0.5, 2**53
    x = tg.zeros(40, 1000, dtype=dtype)
    out = fill(x)
    values = out.double().numpy()
    assert out.dtype == dtype and low <= values.min() and values.max() <= high
    assert abs(values.mean() - mean) < 5 * deviation / 200 and abs(values.std() / deviation - 1) < 0.05
    assert abs(np.corrcoef(values[:20].ravel(), values[20:].ravel())[0, 1]) < 0.05


def test_they_write_in_place_and_return_the_tensor():
    base = tg.zeros(4, 3)
    column = base[:, 1]
    assert column.uniform_(1, 2) is column
    assert (base.numpy()[:, 1] >= 1).all() and base[:, 0].tolist() == [0.0] * 4


def test_the_seed_and_a_generator_fix_them():
    first = tg.empty(5).normal_().tolist()
    tg.manual_seed(0)
    assert tg.empty(5).normal_().tolist() == first
    a, b = (tg.empty(5).uniform_(generator=tg.Generator(device="cpu").manual_seed(3)).tolist() for _ in range(2))
    assert a == b


@pytest.mark.parametrize("dtype", [tg.int8, tg.uint8, tg.int64, tg.bool])
def test_integers_stay_in_their_range(dtype):
    x = tg.zeros(2000, dtype=dtype).random_()
    top = 1 if dtype == tg.bool else np.iinfo(dtype).max
    assert x.dtype == dtype and 0 <= int(x.min()) and int(x.max()) > 0.9 * top
    assert set(tg.zeros(100, dtype=dtype).bernoulli_().tolist()) == {0, 1}


def test_bernoulli_takes_probabilities_by_element():
    p = tg.tensor([0.0, 1.0, 0.0])
    assert tg.zeros(2, 3).bernoulli_(p).tolist() == [[0, 1, 0]] * 2
    assert tg.bernoulli(p).tolist() == p.bernoulli().tolist() == tg.bernoulli(input=p).tolist() == [0, 1, 0]
    assert tg.bernoulli(p, 1.0).tolist() == p.bernoulli(p=1).tolist() == [1, 1, 1]
    assert tg.bernoulli(tg.arange(3), 0.0).tolist() == [0, 0, 0]


def test_gradients_stop_at_the_old_values():
    w = tg.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="uniform_: a leaf tensor that requires grad"):
        w.uniform_()
    with tg.no_grad():
        w.uniform_()
    y = w * 2
    y.normal_()
    y.sum().backward()
    assert w.grad.tolist() == [0.0] * 3
    saved = w.exp()
    with pytest.raises(RuntimeError, match=r"normal_: .* saved by exp"):
        saved.normal_()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x: x.uniform_(2, 1), ValueError, "range must not be empty"),
    (lambda x: x.long().uniform_(), TypeError, "expected a floating tensor, got int64"),
    (lambda x: x.normal_(0, -1), ValueError, "std must not be negative"),
    (lambda x: x.exponential_(0), ValueError, "lambd must be positive"),
    (lambda x: x.log_normal_(0, 0), ValueError, "std must be positive"),
    (lambda x: x.cauchy_(0, 0), ValueError, "sigma must be positive"),
    (lambda x: x.geometric_(1), ValueError, r"p must lie in \(0, 1\)"),
    (lambda x: x.bernoulli_(1.5), ValueError, "probabilities must lie in"),
    (lambda x: x.bernoulli_(tg.ones(5)), ValueError, "does not broadcast"),
    (lambda x: x.bernoulli_(tg.ones(3).long()), TypeError, "probabilities must be floating"),
    (lambda x: x.random_(0), ValueError, "from_ must be below to"),
    (lambda x: x.random_(1.5), TypeError, "bounds must be integers"),
    (lambda x: x.byte().random_(0, 300), ValueError, "uint8 does not hold"),
    (lambda x: tg.bernoulli(x * 3), ValueError, "probabilities must lie in"),
    (lambda x: tg.bernoulli(x.long()), TypeError, "expected floating probabilities"),
])  # fmt: skip
def test_errors_come_before_anything_is_drawn(call, error, message):
    x, state = tg.ones(3), tg.get_rng_state()
    with pytest.raises(error, match=message):
        call(x)
    assert x.tolist() == [1.0] * 3 and tg.get_rng_state() == state
