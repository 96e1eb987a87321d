"""Inputs at the edge that PyTorch accepts: empty axes, float16 whose sums overflow it, integers, and the older loss arguments."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import registry
from tinygrad_cv.domain import call
from tinygrad_cv.extend import Array, Op, op
from tinygrad_cv.testing import OpCheckError, check_call

F = tg.nn.functional
torch = pytest.importorskip("torch")
HALF = np.float16


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "shapes", "expected"),
    [
        ("matmul", [(5, 5, 0), (0, 5)], (5, 5, 5)),
        ("matmul", [(3, 0), (0,)], (3,)),
        ("matmul", [(0,), (0,)], ()),
        ("linear", [(2, 3, 0), (4, 0)], (2, 3, 4)),
        ("bilinear", [(3, 3, 0), (3, 3, 3), (1, 0, 3)], (3, 3, 1)),
        ("conv2d", [(0, 2, 4, 4), (3, 2, 3, 3)], (0, 3, 2, 2)),
        ("conv2d", [(1, 0, 4, 4), (3, 0, 3, 3)], (1, 3, 2, 2)),
    ],
)
def test_products_over_nothing_are_zeros_with_gradients(name, shapes, expected):
    tensors = [tg.zeros(*s, requires_grad=True) for s in shapes]
    out = getattr(F if hasattr(F, name) else tg, name)(*tensors)
    assert out.shape == expected and not out.detach().numpy().any()
    out.sum().backward()
    assert [t.grad.shape for t in tensors] == shapes


def test_a_bias_is_what_remains_of_a_layer_without_inputs():
    assert F.linear(tg.zeros(2, 0), tg.zeros(3, 0), tg.tensor([1.0, 2.0, 3.0])).tolist() == [[1, 2, 3]] * 2


def test_the_walk_finds_an_operator_that_fails_on_an_empty_axis():
    @op("fails_when_empty", domain=lambda draw: call(draw.real((3,))), formula="input")
    class fails_when_empty(Op):
        """input"""

        def reference(input: Array) -> np.ndarray:
            return input.reshape(-1, input.shape[-1])[0]

        def grad_input(upstream):
            return upstream

    try:
        with pytest.raises(OpCheckError, match="with an empty axis: ValueError: cannot reshape"):
            check_call("fails_when_empty", call(np.arange(3.0)))
    finally:
        registry.unregister("fails_when_empty")


def test_cross_entropy_with_probabilities_of_an_empty_batch_is_nan():
    for shape in ((0, 3), (0, 3, 2), (2, 0)):
        assert np.isnan(F.cross_entropy(tg.zeros(*shape), tg.zeros(*shape), label_smoothing=0.1).item())


# float16 ----------------------------------------------------------------------------------------------------------------

_LARGE = (np.arange(12).reshape(3, 4) * 3000).astype(HALF)
_REDUCTIONS = {
    "mean": lambda f, lib, x: x.mean(),
    "mean over dim": lambda f, lib, x: x.mean(0),
    "std": lambda f, lib, x: x.std(0),
    "var": lambda f, lib, x: (x / 100).var(0),
    "norm": lambda f, lib, x: x.norm(2, 1),
    "logsumexp": lambda f, lib, x: lib.logsumexp(x, 0),
    "softmax": lambda f, lib, x: f.softmax(x / 3000, 0),
    "cosine_similarity": lambda f, lib, x: f.cosine_similarity(x, x + 1000),
    "pairwise_distance": lambda f, lib, x: f.pairwise_distance(x, x * 0),
    "normalize": lambda f, lib, x: f.normalize(x),
    "rms_norm": lambda f, lib, x: f.rms_norm(x, (4,)),
    "layer_norm": lambda f, lib, x: f.layer_norm(x, (4,)),
    "group_norm": lambda f, lib, x: f.group_norm(x, 2),
    "batch_norm": lambda f, lib, x: f.batch_norm(x, None, None, training=True),
    "cross_entropy": lambda f, lib, x: f.cross_entropy(x / 3000, lib.tensor([1, 2, 3])),
    **{n: lambda f, lib, x, n=n: getattr(f, n)(x, x * 0 + 1000) for n in ("smooth_l1_loss", "l1_loss", "huber_loss")},
}  # fmt: skip


@pytest.mark.parametrize("name", _REDUCTIONS)
def test_half_precision_is_right_where_its_squares_and_sums_overflow(name):
    mine, half = tg.tensor(_LARGE, requires_grad=True), torch.tensor(_LARGE)
    precise = torch.tensor(_LARGE.astype(float), requires_grad=True)
    got, expected = _REDUCTIONS[name](F, tg, mine), _REDUCTIONS[name](torch.nn.functional, torch, precise)
    assert got.dtype == HALF
    for other in (_REDUCTIONS[name](torch.nn.functional, torch, half), expected):
        np.testing.assert_allclose(got.detach().numpy(), other.detach().numpy(), rtol=2e-3, atol=1e-3)
    weights = np.linspace(0.5, 1.5, got.numel()).reshape(got.shape).astype(HALF)
    got.backward(tg.tensor(weights))
    expected.backward(torch.tensor(weights.astype(float)))
    largest = float(abs(precise.grad).max())
    np.testing.assert_allclose(mine.grad.numpy(), precise.grad.numpy(), rtol=5e-3, atol=max(2e-3 * largest, 2e-7))


def test_means_of_many_halves():
    x = tg.ones(70000, dtype=tg.float16, requires_grad=True)
    assert x.mean().item() == 1 and tg.ones(2, 70000, dtype=tg.float16).mean(1).tolist() == [1, 1]
    x.mean().backward()
    assert np.array_equal(x.grad.numpy(), np.full(70000, np.float32(1) / 70000).astype(HALF))
    assert tg.zeros(70000, dtype=tg.float16).logsumexp(0).item() == pytest.approx(np.log(70000), rel=1e-3)


# The older arguments of losses --------------------------------------------------------------------------------------------

_OLDER = [
    name
    for name, function in inspect.getmembers(torch.nn.functional, inspect.isfunction)
    if registry.find(name) and "reduce" in inspect.signature(function).parameters
]


@pytest.mark.parametrize("name", _OLDER)
def test_losses_have_the_parameters_of_pytorch_in_its_order(name):
    theirs = inspect.signature(getattr(torch.nn.functional, name)).parameters
    mine = tg.ops.get(name).signature.parameters
    assert list(mine) == list(theirs) and [p.default for p in mine.values()] == [p.default for p in theirs.values()]


def test_there_are_losses_with_older_arguments():
    assert len(_OLDER) == 17
    for name in (n for n in dir(torch.nn) if n.endswith("Loss") and hasattr(tg.nn, n)):
        theirs, mine = (list(inspect.signature(getattr(lib.nn, name)).parameters) for lib in (torch, tg))
        assert mine == theirs, name


@pytest.mark.parametrize("size_average", [None, True, False])
@pytest.mark.parametrize("reduce", [None, True, False])
def test_older_arguments_choose_the_reduction_with_a_warning(size_average, reduce):
    a, b = [1.0, 2.0, 4.0], [0.0, 0.0, 0.0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected = torch.nn.functional.mse_loss(torch.tensor(a), torch.tensor(b), size_average, reduce).tolist()
        caught.clear()
        assert F.mse_loss(tg.tensor(a), tg.tensor(b), size_average, reduce).tolist() == expected
        assert tg.nn.MSELoss(size_average, reduce)(tg.tensor(a), tg.tensor(b)).tolist() == expected
    assert [(w.category, w.filename) for w in caught] == [(UserWarning, __file__)] * (
        0 if size_average is None and reduce is None else 2
    )


def test_reduction_may_be_given_by_place():
    a, b = tg.tensor([1.0, 2.0]), tg.zeros(2)
    assert F.mse_loss(a, b, None, None, "sum").item() == 5
    x, y, w = tg.zeros(2, 3), tg.tensor([0, -100]), tg.ones(3)
    assert F.cross_entropy(x, y, w, None, -100).item() == pytest.approx(np.log(3))
    assert F.cross_entropy(x, y, w, None, -100, None, "none").shape == (2,)


# Integers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_resized_bytes_are_those_of_pytorch(rng, mode, channels):
    for _ in range(8):
        image = rng.integers(0, 256, (1, channels, *rng.integers(2, 15, 2))).astype(np.uint8)
        options = {"mode": mode, "size": tuple(rng.integers(1, 20, 2).tolist())}
        if mode.startswith("bi"):
            options.update(align_corners=bool(rng.integers(2)), antialias=bool(rng.integers(2)))
        expected = torch.nn.functional.interpolate(torch.tensor(image), **options).numpy()
        got = F.interpolate(tg.tensor(image), **options).numpy()
        assert got.dtype == np.uint8 and np.array_equal(got, expected), (image.shape, options)


def test_bytes_are_refused_where_pytorch_has_no_rounding():
    for mode in ("area", "linear"):
        with pytest.raises(TypeError, match=f"interpolate: mode '{mode}' expects a floating Tensor, got uint8"):
            F.interpolate(tg.zeros(1, 1, 4, dtype=tg.uint8), size=2, mode=mode)


@pytest.mark.parametrize("name", ["avg_pool1d", "avg_pool2d", "avg_pool3d"])
def test_average_pooling_of_integers_cuts_off(rng, name):
    x = rng.integers(-50, 50, (2, 3, 7, 8))[0 if name == "avg_pool1d" else ...]
    for rest in ((3,), (3, 2, 1), (3, 2, 1, True), (3, 2, 1, False, False)):
        expected = getattr(torch.nn.functional, name)(torch.tensor(x), *rest).numpy()
        got = getattr(F, name)(tg.tensor(x), *rest).numpy()
        assert got.dtype == np.int64 and np.array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_distances_and_rankings_of_integers(rng, dtype):
    a, b, c = (rng.integers(1, 50, (4, 3)).astype(dtype) for _ in range(3))
    for name, arrays in [("margin_ranking_loss", (a, b, c)), ("triplet_margin_loss", (a, b, c)), ("pairwise_distance", (a, b))]:
        expected = getattr(torch.nn.functional, name)(*map(torch.tensor, arrays)).numpy()
        got = getattr(F, name)(*map(tg.tensor, arrays)).numpy()
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_local_response_norm_of_integers(rng):
    x = rng.integers(-50, 50, (2, 5, 3))
    for size in (1, 2, 3, 5):
        expected = torch.nn.functional.local_response_norm(torch.tensor(x), size, 0.1).numpy()
        np.testing.assert_allclose(F.local_response_norm(tg.tensor(x), size, 0.1).numpy(), expected, rtol=2e-6)


@pytest.mark.parametrize("p", [-1.0, -0.5, -np.inf])
def test_distances_of_negative_order(rng, p):
    a, b = rng.standard_normal((2, 3, 4))
    mine, theirs = tg.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    got, expected = (
        F.pairwise_distance(mine, tg.tensor(b), p),
        torch.nn.functional.pairwise_distance(theirs, torch.tensor(b), p),
    )
    np.testing.assert_allclose(got.detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    got.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=1e-10)


def test_a_single_example_may_have_its_label_in_an_array():
    assert F.multi_margin_loss(tg.tensor([1.0, 2.0, 3.0]), tg.tensor([1])).item() == pytest.approx(2 / 3)
    assert F.multi_margin_loss(tg.tensor([1.0, 2.0, 3.0]), tg.tensor([1]), reduction="none").shape == ()


@pytest.mark.parametrize("pads", [(-1, 1, -2, 1), (-1, 2), (2, -1), (-2, 3), (0, -2, 1, -1), (2, 2)])
def test_circular_padding_closes_the_circle_after_cutting(rng, pads):
    a = rng.standard_normal((1, 1, 4, 5))[0 if len(pads) == 2 else ...]
    mine, theirs = tg.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    got, expected = F.pad(mine, pads, "circular"), torch.nn.functional.pad(theirs, pads, "circular")
    assert np.array_equal(got.detach().numpy(), expected.detach().numpy())
    upstream = rng.standard_normal(got.shape)
    got.backward(tg.tensor(upstream))
    expected.backward(torch.tensor(upstream))
    np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=1e-12)


def test_a_circle_is_gone_round_once():
    with pytest.raises(ValueError, match="pad: mode 'circular' adds at most 2 to axis 2 of size 5, got -3 and 4"):
        F.pad(tg.zeros(1, 1, 5), (-3, 4), "circular")
