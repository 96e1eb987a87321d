"""Winograd convolutions against sums over windows in longer floats: every shape and padding, every thread count, nothing beyond the
operands, and no result where something is not finite."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_cv as tg
from tinygrad_cv import kernels

pytest.importorskip("numba")
from tinygrad_cv.ops import sliding
from tinygrad_cv.ops.cpu import winograd, winograd_choice, winograd_transforms, winograd_weight

# Of the largest result, for sums of at most a few thousand products: some rounding units, as direct sums have; for tiles of 4 more.
BOUNDS = {
    (2, np.dtype(np.float32)): 2e-6, (2, np.dtype(np.float64)): 1e-14,
    (4, np.dtype(np.float32)): 6e-6, (4, np.dtype(np.float64)): 3e-14,
}  # fmt: skip
both_tiles = pytest.mark.parametrize("tile", [2, 4])

# images, channels, filters, height, width, padding: maps of one tile and less, ragged in either direction, groups of tiles that begin and
# end inside images and rows, blocks of filters with 1 to 6, more tiles in a row than a vector has lanes, more channels than lanes.
CASES = [
    (1, 1, 1, 3, 3, (0, 0)),
    (1, 1, 1, 1, 1, (1, 1)),
    (2, 3, 5, 1, 2, (1, 2)),
    (3, 5, 4, 4, 4, (0, 1)),
    (7, 17, 13, 7, 7, (1, 1)),
    (5, 16, 12, 14, 9, (1, 1)),
    (2, 20, 7, 33, 35, (2, 0)),
    (1, 8, 30, 5, 71, (1, 1)),
    (1, 33, 2, 70, 6, (0, 2)),
    (9, 64, 64, 8, 8, (1, 1)),
    (2, 130, 65, 16, 16, (1, 1)),
]


def arrays(rng, images, channels, filters, height, width, padding, dtype):
    """Input, weight, bias and the output's gradient."""
    out = (height + 2 * padding[0] - 2, width + 2 * padding[1] - 2)
    shapes = (images, channels, height, width), (filters, channels, 3, 3), (filters,), (images, filters, *out)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def windows(x, padding):
    """x (..., H, W) padded, as (..., H', W', 3, 3), in longer floats."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    pairs = [(p, p) if isinstance(p, int) else p for p in padding]
    padded = np.pad(x.astype(wide), [(0, 0)] * (x.ndim - 2) + pairs)
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(-2, -1))


def exact_forward(x, weight, bias, padding):
    return np.tensordot(windows(x, padding), weight, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2) + bias[:, None, None]


def exact_input_grad(grad, weight, padding):
    """The same sum seen from the input: the kernel turned by half a turn, the padding turned inside out."""
    padded = windows(np.pad(grad, [(0, 0), (0, 0), (2, 2), (2, 2)]), (0, 0))
    full = np.tensordot(padded, weight[:, :, ::-1, ::-1], ((1, 4, 5), (0, 2, 3))).transpose(0, 3, 1, 2)
    (top, bottom), (left, right) = [(p, p) if isinstance(p, int) else p for p in padding]
    return full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]


def exact_weight_grad(grad, x, padding):
    return np.tensordot(grad, windows(x, padding), ((0, 2, 3), (0, 2, 3)))


def close(result, exact, tile):
    assert result is not NotImplemented
    assert result.shape == exact.shape
    assert np.abs(result - exact).max() <= BOUNDS[tile, result.dtype] * np.abs(exact).max()


def check(images, channels, filters, height, width, padding, dtype, tile, seed=0):
    rng = np.random.default_rng(seed)
    x, weight, bias, grad = arrays(rng, images, channels, filters, height, width, padding, dtype)
    out, dx, dw = all_results(x, weight, bias, grad, padding, tile)
    close(out, exact_forward(x, weight, bias, padding), tile)
    close(winograd.forward(x, weight, None, padding, tile), exact_forward(x, weight, 0 * bias, padding), tile)
    close(dx, exact_input_grad(grad, weight, padding), tile)
    close(dw, exact_weight_grad(grad, x, padding), tile)


def all_results(x, weight, bias, grad, padding, tile):
    return (
        winograd.forward(x, weight, bias, padding, tile),
        winograd.input_grad(grad, weight, x.shape[-2:], padding, tile),
        winograd_weight.weight_grad(grad, x, padding, tile),
    )


@both_tiles
def test_the_matrices_make_the_polynomial_product(tile):
    """Exactly: A^T [(G g) * (B^T d)] is the correlation of d with g along one axis."""
    rng = np.random.default_rng(0)
    inputs, weights, outputs = (np.array(m, object) for m in winograd_transforms.matrices(tile))
    d, g = rng.integers(-9, 10, tile + 2), rng.integers(-9, 10, 3)
    assert list(outputs.T @ ((weights @ g) * (inputs @ d))) == list(np.correlate(d, g, "valid"))


@both_tiles
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_all_three_maps(case, dtype, tile):
    check(*case, dtype, tile)


@both_tiles
@pytest.mark.parametrize("size", range(5, 18))
def test_every_remainder_of_the_map(size, tile):
    """Against float64 and the NumPy reference: maps of 5 to 17, no two sizes, paddings or channel counts alike."""
    for images, before, after in ((1, 0, 2), (2, 1, 1), (3, 2, 0), (1, 1, 0)):
        case = (images, 3 + size, 2 + 3 * images + size % 5, size, 22 - size, (before, after))
        check(*case, np.float32, tile, seed=size)
        x, weight, bias, grad = (a.astype(np.float64) for a in arrays(np.random.default_rng(0), *case, np.float32))
        attributes = ((1, 1), case[-1], (1, 1), 1)
        references = (
            sliding.convolve(x, weight, bias, *attributes),
            sliding.convolve_input_grad(grad, weight, x.shape[-2:], *attributes),
            sliding.convolve_weight_grad(grad, x, (3, 3), *attributes),
        )
        results = all_results(*(a.astype(np.float32) for a in (x, weight, bias, grad)), case[-1], tile)
        for result, reference in zip(results, references, strict=True):
            close(result, reference, tile)


@both_tiles
def test_scale_and_relu_where_outputs_are_stored(tile):
    rng = np.random.default_rng(0)
    for case in CASES[4:7]:
        x, weight, bias, _ = arrays(rng, *case, np.float32)
        scale = rng.standard_normal(bias.shape).astype(np.float32)
        plain = exact_forward(x, weight, 0 * bias, case[-1])
        scaled = plain * scale[:, None, None] + bias[:, None, None]
        close(winograd.forward(x, weight, bias, case[-1], tile, scale=scale), scaled, tile)
        close(winograd.forward(x, weight, bias, case[-1], tile, scale=scale, relu=True), np.maximum(scaled, 0), tile)
        close(winograd.forward(x, weight, None, case[-1], tile, relu=True), np.maximum(plain, 0), tile)


@given(
    tile=st.sampled_from([2, 4]),
    sizes=st.tuples(*(st.integers(1, n) for n in (5, 20, 20, 20, 40))),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    seed=st.integers(0, 1000),
)
def test_any_shape(tile, sizes, padding, seed):
    images, channels, filters, height, width = sizes
    height, width = max(height, 3 - 2 * padding[0]), max(width, 3 - 2 * padding[1])
    check(images, channels, filters, height, width, padding, np.float32, tile, seed)


@both_tiles
def test_paddings_that_differ_before_and_after(tile):
    rng = np.random.default_rng(0)
    x, weight, bias, _ = arrays(rng, 2, 4, 5, 9, 10, (1, 1), np.float32)
    padding = ((0, 2), (2, 1))
    out = exact_forward(x, weight, bias, padding)
    grad = rng.standard_normal(out.shape).astype(np.float32)
    close(winograd.forward(x, weight, bias, padding, tile), out, tile)
    close(winograd.input_grad(grad, weight, (9, 10), padding, tile), exact_input_grad(grad, weight, padding), tile)
    close(winograd_weight.weight_grad(grad, x, padding, tile), exact_weight_grad(grad, x, padding), tile)


@both_tiles
def test_paddings_that_some_outputs_see_alone(tile):
    """Above 2, where the gradient in the input would have to leave elements out, it is refused."""
    rng = np.random.default_rng(0)
    x, weight, bias, grad = arrays(rng, 2, 4, 5, 6, 7, (4, 3), np.float32)
    close(winograd.forward(x, weight, bias, (4, 3), tile), exact_forward(x, weight, bias, (4, 3)), tile)
    close(winograd_weight.weight_grad(grad, x, (4, 3), tile), exact_weight_grad(grad, x, (4, 3)), tile)
    assert winograd.input_grad(grad, weight, (6, 7), (4, 3), tile) is NotImplemented


@both_tiles
def test_against_torch(tile):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # two spinning thread pools in one process slow each other down
    rng = np.random.default_rng(0)
    for case in CASES[-3:]:
        x, weight, bias, grad = arrays(rng, *case, np.float32)
        tensors = [torch.from_numpy(a).double() for a in (grad, x, weight)]
        out = torch.conv2d(*tensors[1:], torch.from_numpy(bias).double(), padding=case[-1])
        attributes = [list(bias.shape), (1, 1), case[-1], (1, 1), False, (0, 0), 1, (True, True, False)]
        dx, dw, _ = torch.ops.aten.convolution_backward(*tensors, *attributes)
        for ours, theirs in zip(all_results(x, weight, bias, grad, case[-1], tile), (out, dx, dw), strict=True):
            close(ours, theirs.numpy(), tile)


def test_small_integers_are_exact():
    """The transforms of 2x2 tiles add, subtract and halve: with integers nothing is rounded, and the result is exact."""
    rng = np.random.default_rng(0)
    x, weight, bias, grad = (rng.integers(-8, 9, a.shape).astype(np.float32) for a in arrays(rng, *CASES[4], np.float32))
    out, dx, dw = all_results(x, weight, bias, grad, (1, 1), 2)
    np.testing.assert_array_equal(out, exact_forward(x, weight, bias, (1, 1)))
    np.testing.assert_array_equal(dx, exact_input_grad(grad, weight, (1, 1)))
    np.testing.assert_array_equal(dw, exact_weight_grad(grad, x, (1, 1)))


@both_tiles
@pytest.mark.parametrize("case", [CASES[4], CASES[7], CASES[9], CASES[10]])
def test_the_number_of_threads_changes_no_bit(case, tile, monkeypatch):
    operands = arrays(np.random.default_rng(0), *case, np.float32)
    most = tg.get_num_threads()
    expected = all_results(*operands, case[-1], tile)
    for threads, context in ((most, kernels.serial()), (1, contextlib.nullcontext())):
        tg.set_num_threads(threads)
        try:
            with context:
                for a, b in zip(all_results(*operands, case[-1], tile), expected, strict=True):
                    np.testing.assert_array_equal(a, b)
        finally:
            tg.set_num_threads(most)
    for shares in (1, 2, 3, 7, 16):
        for module in (winograd, winograd_weight):
            monkeypatch.setattr(module, "share_count", lambda work, enough, shares=shares: shares)
        for a, b in zip(all_results(*operands, case[-1], tile), expected, strict=True):
            np.testing.assert_array_equal(a, b)


@both_tiles
@pytest.mark.parametrize("case", CASES)
def test_nothing_beyond_the_operands_is_read_or_written(case, tile, monkeypatch):
    """Operands lie between NaNs, memory comes full of NaNs with a margin whose loss would be seen."""
    operands = arrays(np.random.default_rng(0), *case, np.float32)
    expected = all_results(*operands, case[-1], tile)
    margin, given_out = 64, []

    def between(array):
        around = np.full(array.size + 2 * margin, np.nan, array.dtype)
        around[margin:-margin] = array.ravel()
        return around[margin:-margin].reshape(array.shape)

    def empty(shape, dtype):
        around = np.full(int(np.prod(shape)) + 2 * margin, np.nan, dtype)
        given_out.append(around)
        return around[margin:-margin].reshape(shape)

    for module in (winograd, winograd_weight):
        monkeypatch.setattr(module, "empty", empty)
    for a, b in zip(all_results(*map(between, operands), case[-1], tile), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    for around in given_out:
        assert np.isnan(around[:margin]).all() and np.isnan(around[-margin:]).all()


@both_tiles
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_is_refused_wherever_it_is(value, tile):
    """One bad element spoils whole tiles, so no result is given; 3e38 overflows."""
    x, weight, bias, grad = arrays(np.random.default_rng(0), 2, 3, 7, 5, 6, (1, 1), np.float32)
    for h, w in np.ndindex(5, 6):
        bad = x.copy()
        bad[1, 2, h, w] = value
        if np.isfinite(value):
            bad[1, 2, h, w - 1] = -value  # differences overflow before sums do
        assert winograd.forward(bad, 10 * weight, bias, (1, 1), tile) is NotImplemented
        assert winograd_weight.weight_grad(10 * grad, bad, (1, 1), tile) is NotImplemented
        bad = grad.copy()
        bad[1, 6, h, w] = value
        assert winograd.input_grad(bad, 10 * weight, (5, 6), (1, 1), tile) is NotImplemented
        assert winograd_weight.weight_grad(bad, 10 * x, (1, 1), tile) is NotImplemented
    for i, j in np.ndindex(3, 3):
        bad = weight.copy()
        bad[6, 2, i, j] = value
        assert winograd.forward(10 * x, bad, bias, (1, 1), tile) is NotImplemented
        assert winograd.input_grad(10 * grad, bad, (5, 6), (1, 1), tile) is NotImplemented
    if not np.isfinite(value):
        bias[4] = value
        assert winograd.forward(x, weight, bias, (1, 1), tile) is NotImplemented


@both_tiles
def test_operands_of_any_layout_and_dtype(tile):
    rng = np.random.default_rng(0)
    x, weight, bias, grad = arrays(rng, 2, 6, 8, 10, 12, (1, 1), np.float32)
    expected = all_results(x, weight, bias, grad, (1, 1), tile)
    turned = [np.asfortranarray(x), weight.transpose(3, 2, 0, 1).copy().transpose(2, 3, 1, 0), np.repeat(bias, 2)[::2]]
    frozen = grad.copy()
    frozen.flags.writeable = False
    for a, b in zip(all_results(*turned, frozen, (1, 1), tile), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(winograd.forward(x[0], weight, bias, (1, 1), tile), expected[0][0])
    for dtype in (np.int64, np.float16):
        assert winograd.forward(x.astype(dtype), weight.astype(dtype), None, (1, 1)) is NotImplemented
        assert winograd_weight.weight_grad(grad.astype(dtype), x.astype(dtype), (1, 1)) is NotImplemented
    assert winograd.forward(x, weight[:, :, :2], None, (1, 1)) is NotImplemented
    assert winograd.input_grad(grad, weight[:, :, :, :1], (10, 12), (1, 1)) is NotImplemented
    assert winograd.forward(x[:0], weight, None, (1, 1)) is NotImplemented


@pytest.mark.parametrize("features", ["", "+avx,+avx2,+fma"])
def test_other_vector_widths(features):
    """Vectors of four and of eight floats, whatever this machine has: 9 taps and odd tiles meet other boundaries there."""
    import llvmlite.binding

    host = llvmlite.binding.get_host_cpu_features()
    if features and not all(host.get(name[1:]) for name in features.split(",")):
        pytest.skip("this machine has no such vectors")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, test_winograd as t\n"
        "for case in t.CASES[1:9]:\n"
        "    for tile in (2, 4): t.check(*case, np.float32, tile)\n"
    )
    name = "x86-64" if features else "generic"
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", program, os.path.dirname(__file__)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def level():
    """The level before the test, which the test may change."""
    before = tg.get_conv_precision()
    yield before
    tg.set_conv_precision(before)


SHAPES = ((32, 64, 32), (32, 128, 16), (32, 256, 8), (128, 16, 32), (1, 64, 56), (8, 512, 7), (1, 128, 28))


def test_worth_it_where_the_arithmetic_is(level):
    tiles = {"highest": {0}, "high": {2}, "medium": {2, 4}}
    for name, allowed in tiles.items():
        tg.set_conv_precision(name)
        for images, channels, size in SHAPES:
            for weight_grad in (False, True):
                shape = images, channels, channels, (size, size)
                assert winograd_choice.best_tile(*shape, weight_grad=weight_grad) in allowed
                assert winograd.worth(*shape, weight_grad=weight_grad) is (name != "highest")
        for channels, filters in ((3, 64), (1, 6), (4, 4)):
            assert not winograd.worth(32, channels, filters, (32, 32))
            assert not winograd.worth(32, channels, filters, (32, 32), weight_grad=True)
    for images, channels, size in SHAPES[:3]:
        assert winograd_choice.best_tile(images, channels, channels, (size, size)) == 4


def test_the_level_is_set_and_restored(level):
    assert level == "high"
    tg.set_conv_precision("highest")
    assert tg.get_conv_precision() == "highest"
    with tg.set_conv_precision("medium"):
        assert tg.get_conv_precision() == "medium"
        with tg.set_conv_precision("high"):
            assert tg.get_conv_precision() == "high"
        assert tg.get_conv_precision() == "medium"
    assert tg.get_conv_precision() == "highest"
    with pytest.raises(KeyError), tg.set_conv_precision("medium"):
        raise KeyError
    assert tg.get_conv_precision() == "highest"
    for wrong in ("low", "", None, 2):
        with pytest.raises(ValueError, match="set_conv_precision: expected 'highest', 'high' or 'medium'"):
            tg.set_conv_precision(wrong)
    assert tg.get_conv_precision() == "highest"


@pytest.mark.parametrize("name, tile", [("highest", 0), ("high", 2), ("medium", 4)])
def test_a_convolution_and_its_gradients_at_each_level(name, tile, level, monkeypatch):
    """The operators, through the graph, against PyTorch in float64; and that each level takes the way it should."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    taken = []
    for module in (winograd, winograd_weight):
        monkeypatch.setattr(module, "_KERNELS", Recorded(module._KERNELS, taken))
    tg.set_conv_precision(name)
    rng = np.random.default_rng(0)
    for images, channels, filters, size in ((8, 64, 64, 32), (2, 70, 61, 29)):
        arguments = arrays(rng, images, channels, filters, size, size - 1, (1, 1), np.float32)
        ours = [tg.tensor(a, requires_grad=True) for a in arguments[:3]]
        out = tg.conv2d(*ours, padding=1)
        out.backward(tg.tensor(arguments[3]))
        theirs = [torch.from_numpy(a).double().requires_grad_() for a in arguments[:3]]
        expected = torch.conv2d(*theirs, padding=1)
        expected.backward(torch.from_numpy(arguments[3]).double())
        close(out.detach().numpy(), expected.detach().numpy(), 4)
        for a, b in zip(ours, theirs, strict=True):
            close(a.grad.numpy(), b.grad.numpy(), 4)
    assert set(taken) == ({tile} if tile else set())


class Recorded(dict):
    """A dict that notes which keys are asked for."""

    def __init__(self, entries, taken):
        super().__init__(entries)
        self.taken = taken

    def __getitem__(self, key):
        self.taken.append(key)
        return super().__getitem__(key)


@both_tiles
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_the_registry_checks_hold_with_every_tile(name, tile, monkeypatch):
    """Values on every layout, kernels against references, both orders of gradients; here every 3x3 convolution goes this way."""
    from tinygrad_cv.testing import check_op

    for module in (winograd, winograd_weight):
        monkeypatch.setattr(module, "best_tile", lambda *a, **k: tile)
    monkeypatch.setattr(winograd, "worth", lambda *a, **k: True)
    check_op(name, examples=10)
