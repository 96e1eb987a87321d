"""Reductions, scans and statistics: PyTorch's forms, dtypes and edge cases, and which gradient is chosen at ties and zeros."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import tinygrad_cv as tg

INF, NAN = math.inf, math.nan

ARRAYS = {
    "0-d": np.float32(2.5),
    "vector": np.array([1.0, -2, 0, 3], np.float32),
    "ties": np.array([[1.0, -2, 0, 3], [4, 4, -1, 4]], np.float32),
    "3-d": (np.arange(24).reshape(2, 3, 4) * 7 % 11).astype(np.float64),
    "int64": np.array([[1, -2, 0, 3], [4, 4, -1, 4]]),
    "int32": np.array([3, 3, 1], np.int32),
    "uint8": np.array([[0, 3], [7, 250]], np.uint8),
    "nan": np.array([[1.0, NAN, 2.0], [4, -1, 3.0]], np.float32),
    "infinite": np.array([[INF, 0.0, 1], [-INF, 5, 2.0]], np.float32),
    "empty": np.zeros((0,), np.float32),
    "no rows": np.zeros((0, 3), np.float32),
    "no columns": np.zeros((2, 0), np.float32),
    "float16": np.array([[1.0, 2.5], [-3, 4]], np.float16),
}
FOLDS = {
    "sum": [{}, {"dtype": "float64"}], "mean": [{}, {"dtype": "float64"}], "prod": [{}, {"dtype": "float64"}],
    "amax": [{}], "amin": [{}], "max": [{}], "min": [{}], "argmax": [{}], "argmin": [{}], "any": [{}], "all": [{}],
    "median": [{}], "nanmedian": [{}], "nansum": [{}], "nanmean": [{}], "aminmax": [{}],
    "std": [{}, {"correction": 0}, {"unbiased": False}], "var": [{}, {"correction": 2}], "std_mean": [{}],
    "norm": [{}, {"p": 1}, {"p": INF}, {"p": -INF}, {"p": 0}, {"p": 3}], "count_nonzero": [{}],
}  # fmt: skip
SCANS = ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "diff")
ONE_AXIS = {"prod", "max", "min", "argmax", "argmin", "median", "nanmedian", "aminmax"}


def grad(function, *arrays, upstream=None):
    """Gradients of a function of arrays, in float64, for an upstream of ones or a given one."""
    leaves = [tg.tensor(np.asarray(a, np.float64), requires_grad=True) for a in arrays]
    out = function(*leaves)
    out.backward(tg.ones_like(out) if upstream is None else tg.tensor(np.asarray(upstream, np.float64)))
    return [leaf.grad.numpy() for leaf in leaves]


def outcome(call):
    """What a call returns as a list of arrays, or the exception it raises."""
    try:
        value = call()
    except (ValueError, TypeError, IndexError, RuntimeError, NotImplementedError) as error:
        return error
    return [v.detach().numpy() for v in (value if isinstance(value, tuple) else (value,))]


def assert_same(label, ours, theirs):
    """Both raise, or both return the same shapes, dtypes and values."""
    assert isinstance(ours, Exception) == isinstance(theirs, Exception), f"{label}: {ours!r}, PyTorch {theirs!r}"
    if isinstance(ours, Exception):
        return
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, f"{label}: {a!r}, PyTorch {b!r}"
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-5, atol=1e-6, err_msg=label)


@pytest.mark.parametrize("name", FOLDS)
def test_folds_agree_with_pytorch_in_every_form(name):
    torch = pytest.importorskip("torch")
    for which, array in ARRAYS.items():
        if name == "std_mean" and which == "infinite":
            continue  # PyTorch's mean is NaN there, where `mean` of the same is inf
        x, y = tg.tensor(np.asarray(array)), torch.tensor(np.asarray(array))
        for options in FOLDS[name]:
            calls = [{}]
            for dim in (0, -1, 1, 5, (0, 1), (0, 0)):
                if not (isinstance(dim, tuple) and name in ONE_AXIS):
                    calls += [{"dim": dim}] + ([{"dim": dim, "keepdim": True}] if name != "count_nonzero" else [])
            for call in calls:
                given = {**options, **call}
                mine = {k: getattr(tg, v) if k == "dtype" else v for k, v in given.items()}
                their = {k: getattr(torch, v) if k == "dtype" else v for k, v in given.items()}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # PyTorch warns where a variance has no degrees of freedom
                    expected = outcome(lambda y=y, their=their: getattr(torch, name)(y, **their))
                got = outcome(lambda x=x, mine=mine: getattr(tg, name)(x, **mine))
                if name in ("median", "nanmedian") and not isinstance(expected, Exception):
                    got, expected = got[:1], expected[:1]  # PyTorch leaves open which of equal elements it names
                assert_same(f"{name} of {which} with {given}", got, expected)


@pytest.mark.parametrize("name", SCANS)
def test_scans_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    for which, array in ARRAYS.items():
        if name == "logcumsumexp" and np.asarray(array).dtype == np.float16:
            continue  # rounded at other places
        for dim in (0, -1, 1):
            keywords = {"dim": dim}
            x, y = np.asarray(array), np.asarray(array)
            if name in ("cummax", "cummin") and not x.size:
                continue  # PyTorch accepts any dim here
            got = outcome(lambda x=x, keywords=keywords: getattr(tg, name)(tg.tensor(x), **keywords))
            expected = outcome(lambda y=y, keywords=keywords: getattr(torch, name)(torch.tensor(y), **keywords))
            assert_same(f"{name} of {which}, dim {dim}", got, expected)


def test_max_has_three_forms():
    x = tg.tensor([[1.0, 5.0, 5.0], [7.0, 2.0, 0.0]])
    assert x.max().item() == 7
    values, indices = x.max(1)
    assert values.tolist() == [5, 7] and indices.tolist() == [1, 0] and indices.dtype == tg.int64
    kept = tg.max(x, 0, keepdim=True)
    assert kept.values.tolist() == [[7, 5, 5]] and kept.indices.shape == (1, 3)
    other = tg.full((2, 1), 3.0)
    assert tg.max(x, other).tolist() == [[3, 5, 5], [7, 3, 3]]
    assert tg.min(x, other=other).tolist() == [[1, 3, 3], [3, 2, 0]]
    with pytest.raises(TypeError, match="max"):
        tg.max(x, 0, other=other)


def test_ties_share_the_gradient_or_go_to_the_first():
    x = [[1.0, 4.0, 4.0, 4.0]]
    np.testing.assert_allclose(grad(lambda t: t.amax(1), x)[0], [[0, 1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(grad(lambda t: t.max(), x)[0], [[0, 1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(grad(lambda t: t.max(1).values, x)[0], [[0, 1, 0, 0]])
    np.testing.assert_allclose(grad(lambda t: t.cummax(1).values, x)[0], [[1, 1, 1, 1]])
    np.testing.assert_allclose(grad(lambda t: t.median(), [1.0, 2.0, 2.0, 5.0])[0], [0, 0.5, 0.5, 0])
    np.testing.assert_allclose(grad(lambda t: t.norm(INF), [-3.0, 3.0, 1.0])[0], [-0.5, 0.5, 0])


def test_nan_is_found_by_extrema():
    x = tg.tensor([1.0, NAN, 3.0, NAN])
    assert math.isnan(x.max().item()) and math.isnan(x.amin().item())
    assert x.max(0).indices.item() == 1 and x.argmin().item() == 1
    assert x.nansum().item() == 4 and x.nanmean().item() == 2 and x.nanmedian().item() == 1


@pytest.mark.parametrize(
    ("x", "first", "second"),
    [
        ([2.0, 3.0, 4.0], [12, 8, 6], [[0, 4, 3], [4, 0, 2], [3, 2, 0]]),
        ([2.0, 0.0, 4.0], [0, 8, 0], [[0, 4, 0], [4, 0, 2], [0, 2, 0]]),
        ([0.0, 0.0, 4.0], [0, 0, 0], [[0, 4, 0], [4, 0, 0], [0, 0, 0]]),
        ([0.0, 0.0, 0.0], [0, 0, 0], np.zeros((3, 3))),
    ],
)
def test_prod_and_cumprod_are_differentiable_at_zeros(x, first, second):
    for function in (lambda t: t.prod(), lambda t: t.cumprod(0)[-1], lambda t: t.reshape(3, 1).prod(0)[0]):
        leaf = tg.tensor(np.array(x), requires_grad=True)
        (slope,) = tg.autograd.grad(function(leaf), leaf, create_graph=True)
        np.testing.assert_allclose(slope.detach().numpy(), first)
        rows = [tg.autograd.grad(slope[i], leaf, retain_graph=True)[0].numpy() for i in range(3)]
        np.testing.assert_allclose(rows, second)


def test_norm_and_std_have_gradient_zero_at_zero():
    for p in (1, 2, 3, INF, 0.5, "fro", 0):
        np.testing.assert_array_equal(grad(lambda t, p=p: t.norm(p), [0.0, 0.0])[0], [0, 0])
    np.testing.assert_allclose(grad(lambda t: t.norm(), [3.0, 0.0, 4.0])[0], [0.6, 0, 0.8])
    np.testing.assert_array_equal(grad(lambda t: t.std(), [2.0, 2.0, 2.0])[0], [0, 0, 0])
    leaf = tg.zeros(3, dtype=tg.float64, requires_grad=True)
    (slope,) = tg.autograd.grad(leaf.norm(), leaf, create_graph=True)
    np.testing.assert_array_equal(tg.autograd.grad(slope.sum(), leaf)[0].numpy(), [0, 0, 0])


def test_variance_understands_every_spelling():
    x = tg.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 6.0]])
    population = x.numpy().var(1)
    for spelled in (x.var(1, correction=0), x.var(1, False), x.var(1, unbiased=False), tg.var(x, dim=1, correction=0)):
        np.testing.assert_allclose(spelled.numpy(), population, rtol=1e-6)
    np.testing.assert_allclose(x.var(False).item(), x.numpy().var(), rtol=1e-6)
    np.testing.assert_allclose(x.std((0, 1)).item(), x.numpy().std(ddof=1), rtol=1e-6)
    variance, mean = tg.var_mean(x, 1, keepdim=True)
    assert variance.shape == mean.shape == (2, 1)
    np.testing.assert_allclose(mean.numpy()[:, 0], x.numpy().mean(1), rtol=1e-6)
    with pytest.raises(TypeError, match="var: give correction or unbiased"):
        x.var(1, unbiased=True, correction=0)
    with pytest.raises(TypeError, match="std: expected a floating tensor, got int64"):
        tg.tensor([1, 2]).std()


def test_variance_keeps_its_digits_far_from_zero():
    x = tg.tensor(np.array([1e4 + 1, 1e4 + 2, 1e4 + 3], np.float32))
    assert x.var().item() == pytest.approx(1.0, rel=1e-6)


def test_median_is_the_lower_one():
    assert tg.tensor([4.0, 1.0, 3.0, 2.0]).median().item() == 2
    values, indices = tg.tensor([[4.0, 1.0, 3.0, 2.0]]).median(1)
    assert values.tolist() == [2] and indices.tolist() == [3]
    assert tg.tensor([[1, 1, 2, 2, 3]]).mode(1).values.tolist() == [1]


@pytest.mark.parametrize("method", ["linear", "lower", "higher", "nearest", "midpoint"])
def test_quantile_agrees_with_numpy(method):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 7))
    for q in (0.0, 0.3, 0.5, 1.0):
        got = tg.quantile(tg.tensor(x), q, 1, interpolation=method).numpy()
        np.testing.assert_allclose(got, np.quantile(x, q, axis=1, method=method))
    several = tg.quantile(tg.tensor(x), tg.tensor([0.25, 0.75], dtype=tg.float64), 0, keepdim=True, interpolation=method)
    np.testing.assert_allclose(several.numpy(), np.quantile(x, [0.25, 0.75], axis=0, keepdims=True, method=method))
    with pytest.raises(ValueError, match=r"quantile: q must be .* in \[0, 1\]"):
        tg.quantile(tg.tensor(x), 1.5)


def test_logsumexp_neither_overflows_nor_loses_infinities():
    x = tg.tensor([[1000.0, 1000.0], [-INF, -INF], [INF, 1.0], [-INF, 2.0]], dtype=tg.float64, requires_grad=True)
    out = x.logsumexp(1)
    np.testing.assert_allclose(out.detach().numpy(), [1000 + math.log(2), -INF, INF, 2])
    out[[0, 1, 3]].sum().backward()
    np.testing.assert_allclose(x.grad.numpy()[[0, 1, 3]], [[0.5, 0.5], [0, 0], [0, 1]])
    assert tg.tensor([1, 2]).logsumexp(0).dtype == tg.float32


def test_logcumsumexp_keeps_far_apart_exponents():
    x = np.array([-INF, -1000.0, 0.0, 1000.0, 999.0])
    out = tg.tensor(x).logcumsumexp(0).numpy()
    np.testing.assert_allclose(out, [-INF, -1000, 0, 1000, 1000 + math.log1p(math.exp(-1))])
    slope = grad(lambda t: t.logcumsumexp(0), x)[0]
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(slope, [0, 1, 1, 1 + 1 / (1 + math.exp(-1)), 1 / (1 + math.e)], atol=1e-12)


def test_linear_recurrence_is_the_recurrence():
    rng = np.random.default_rng(0)
    u, a = rng.normal(size=(2, 5)), rng.normal(size=(2, 5))
    expected = u.copy()
    for t in range(1, 5):
        expected[:, t] += a[:, t] * expected[:, t - 1]
    np.testing.assert_allclose(tg.linear_recurrence(tg.tensor(u), tg.tensor(a), 1).numpy(), expected)
    back = tg.linear_recurrence(tg.tensor(u[:, ::-1].copy()), tg.tensor(a[:, ::-1].copy()), -1, reverse=True).numpy()
    np.testing.assert_allclose(back[:, ::-1], expected)


def test_counts():
    x = tg.tensor([[0.0, 1.0, NAN], [0.0, 0.0, -2.0]])
    assert x.count_nonzero().item() == 3 and x.count_nonzero(0).tolist() == [0, 1, 2]
    assert tg.tensor([1, 3, 3]).bincount(minlength=5).tolist() == [0, 1, 0, 2, 0]
    assert tg.tensor([1, 0, 1]).bincount(tg.tensor([0.5, 2.0, 1.0])).tolist() == [2.0, 1.5]
    assert tg.tensor([0.0, 0.5, 1.0, 2.0, 9.0]).histc(4, min=0, max=2).tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="bincount: values must not be negative"):
        tg.tensor([-1]).bincount()


def test_sum_to_size_undoes_broadcasting():
    x = np.arange(24.0).reshape(2, 3, 4)
    for size in ((), (4,), (3, 1), (1, 1, 4), (2, 3, 4), (2, 1, 1)):
        ours = tg.tensor(x).sum_to_size(size).numpy()
        back, summed = np.broadcast_to(np.ones(size), x.shape), ours
        assert summed.shape == size
        # <x, broadcast(1)> = <sum_to_size(x), 1>: the two maps are adjoint
        np.testing.assert_allclose((x * back).sum(), summed.sum())
    with pytest.raises(ValueError, match=r"sum_to_size: shape \(2, 3, 4\) cannot be summed to \(2, 4\)"):
        tg.tensor(x).sum_to_size(2, 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tg.zeros(2, 3).sum(2), IndexError, "sum: dim 2 is out of range for a tensor of 2 axes; use -2..1"),
        (lambda: tg.zeros(2, 3).sum((0, -2)), ValueError, r"sum: dim \(0, -2\) names an axis twice"),
        (lambda: tg.zeros(2, 3).sum(0.5), TypeError, "sum: dim must be an integer, got 0.5"),
        (lambda: tg.tensor([1, 2]).mean(), TypeError, r"mean: expected a floating tensor, got int64; use .float\(\)"),
        (lambda: tg.zeros(0).max(), ValueError, r"max: a tensor of shape \(0,\) is empty and has no largest element"),
        (lambda: tg.zeros(2, 0).amax(1), ValueError, r"amax: axis 1 of a tensor of shape \(2, 0\) is empty"),
        (lambda: tg.zeros(2, 0).argmin(), ValueError, r"argmin: a tensor of shape \(2, 0\) is empty"),
        (lambda: tg.zeros(2, 3).cumsum(-3), IndexError, "cumsum: dim -3 is out of range"),
        (lambda: tg.zeros(2).logcumsumexp(1), IndexError, "logcumsumexp: dim 1 is out of range"),
        (lambda: tg.zeros(2).norm("nuc"), ValueError, r"norm: the nuclear norm needs a matrix, or dim, got shape \(2,\)"),
    ],
)
def test_errors_say_what_would_be_right(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_empty_folds():
    assert tg.zeros(0).sum().item() == 0 and tg.zeros(0).prod().item() == 1
    assert tg.zeros(0, 3).sum(0).tolist() == [0, 0, 0] and tg.zeros(0, 3).amax(1).shape == (0,)
    assert math.isnan(tg.zeros(0).mean().item()) and tg.zeros(0).all().item() and not tg.zeros(0).any().item()
    assert tg.zeros(0).logsumexp(0).item() == -INF
    leaf = tg.zeros(0, 3, requires_grad=True)
    (leaf.sum() + leaf.prod() + leaf.cumprod(0).sum()).backward()
    assert leaf.grad.shape == (0, 3)


def test_integers_sum_wide_and_halves_accumulate_in_float32():
    x = tg.tensor(np.full(300, 200, np.uint8))
    assert x.sum().item() == 60_000 and x.sum().dtype == tg.int64 and x.cumsum(0).dtype == tg.int64
    half = tg.ones(4096, dtype=tg.float16)
    assert half.sum().item() == 4096 and half.mean().item() == 1


def test_numpys_names_and_functions_work_on_tensors():
    x = tg.arange(6, dtype=tg.float32).reshape(2, 3)
    assert x.sum(axis=1).tolist() == [3, 12] and tg.mean(x, axis=0, keepdims=True).tolist() == [[1.5, 2.5, 3.5]]
    assert x.argmax(axis=0).tolist() == [1, 1, 1] and np.sum(x).item() == 15 and np.max(x, axis=1).values.tolist() == [2, 5]
    with pytest.raises(TypeError, match=r"sum\(\) got an unexpected keyword argument 'axes'"):
        x.sum(axes=1)
