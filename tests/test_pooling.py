"""Pooling against PyTorch and against its definition; the kernels against the references; ties, NaN and the sizes of ceil_mode."""

import math

import numpy as np
import pytest
from tinygrad_cv.ops.windows import pooled_size

import tinygrad_cv as tg
from tinygrad_cv.testing import gradcheck, gradgradcheck


def integers(rng, low, high, count):
    return tuple(int(i) for i in rng.integers(low, high + 1, count))


def compare_with_torch(name, x, *args, rng, **attributes):
    """Value (and indices), gradient of a random upstream, and its gradients, in float64."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # two spinning thread pools in one process slow each other down
    ours, theirs = tg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out, expected = (
        getattr(tg, name)(ours, *args, **attributes),
        getattr(torch.nn.functional, name)(theirs, *args, **attributes),
    )
    if isinstance(expected, tuple):
        assert out[1].dtype == tg.int64
        np.testing.assert_array_equal(out[1].numpy(), expected[1].numpy())
        out, expected = out[0], expected[0]
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    seed, direction = rng.standard_normal(expected.shape), rng.standard_normal(x.shape)
    upstream, torch_upstream = tg.tensor(seed, requires_grad=True), torch.tensor(seed, requires_grad=True)
    (first,) = tg.autograd.grad(out, [ours], upstream, create_graph=True)
    (expected_first,) = torch.autograd.grad(expected, [theirs], torch_upstream, create_graph=True)
    np.testing.assert_allclose(first.detach().numpy(), expected_first.detach().numpy(), rtol=1e-10, atol=1e-10)
    second = tg.autograd.grad((first * tg.tensor(direction)).sum(), [upstream, ours], allow_unused=True)
    expected_second = torch.autograd.grad(
        (expected_first * torch.tensor(direction)).sum(), [torch_upstream, theirs], allow_unused=True
    )
    for a, b in zip(second, expected_second, strict=True):
        np.testing.assert_allclose(0.0 if a is None else a.numpy(), 0.0 if b is None else b.numpy(), rtol=1e-9, atol=1e-9)


def lead(rng):
    return [(1, 2), (3, 2), (4,)][rng.integers(3)]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_agrees_with_torch(rank):
    rng = np.random.default_rng(rank)
    for _ in range(30):
        kernel, stride, dilation = integers(rng, 1, 4, rank), integers(rng, 1, 4, rank), integers(rng, 1, 2, rank)
        padding = tuple(int(rng.integers(0, k // 2 + 1)) if d == 1 else 0 for k, d in zip(kernel, dilation, strict=True))
        least = [max(1, d * (k - 1) + 1 - p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
        x = rng.standard_normal((*lead(rng), *(n + int(rng.integers(0, 7 if rank < 3 else 3)) for n in least)))
        stride = [None, stride][rng.integers(2)]
        arguments = (kernel, stride, padding, dilation, bool(rng.integers(2)))
        compare_with_torch(f"max_pool{rank}d", x, *arguments, rng=rng, return_indices=bool(rng.integers(2)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_avg_pool_agrees_with_torch(rank):
    rng = np.random.default_rng(10 + rank)
    for _ in range(30):
        kernel, stride = integers(rng, 1, 4, rank), integers(rng, 1, 4, rank)
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        x = rng.standard_normal((*lead(rng), *(k + int(rng.integers(0, 6 if rank < 3 else 3)) for k in kernel)))
        arguments = (kernel, [None, stride][rng.integers(2)], padding, bool(rng.integers(2)), bool(rng.integers(2)))
        extra = {} if rank == 1 else {"divisor_override": [None, 3][rng.integers(2)]}
        compare_with_torch(f"avg_pool{rank}d", x, *arguments, rng=rng, **extra)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_lp_pool_agrees_with_torch(rank):
    rng = np.random.default_rng(20 + rank)
    for i in range(20):
        kernel, stride = integers(rng, 1, 3, rank), integers(rng, 1, 3, rank)
        x = rng.uniform(0.1, 2, (*lead(rng), *(k + int(rng.integers(0, 5 if rank < 3 else 3)) for k in kernel)))
        p = [1, 2, 3, 1.5, math.inf, -math.inf][i % 6]
        stride = [None, stride][rng.integers(2)]
        if rank == 1:  # PyTorch takes plain integers here
            kernel, stride = kernel[0], None if stride is None else stride[0]
        compare_with_torch(f"lp_pool{rank}d", x, p, kernel, stride, bool(rng.integers(2)), rng=rng)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_adaptive_pool_agrees_with_torch(rank, kind):
    rng = np.random.default_rng(30 + rank)
    for _ in range(15):
        x = rng.standard_normal((*lead(rng), *integers(rng, 1, 9 if rank < 3 else 5, rank)))
        output = integers(rng, 1, 6 if rank < 3 else 3, rank)
        extra = {"return_indices": True} if kind == "max" else {}
        compare_with_torch(f"adaptive_{kind}_pool{rank}d", x, output, rng=rng, **extra)
    if rank > 1:
        compare_with_torch(f"adaptive_{kind}_pool{rank}d", x, (None, *output[1:]), rng=rng)


@pytest.mark.parametrize("rank", [2, 3])
def test_fractional_max_pool_agrees_with_torch(rank):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(40 + rank)
    for i in range(15):
        kernel, shape = integers(rng, 1, 3, rank), lead(rng)
        sizes = [k + int(rng.integers(1, 6)) for k in kernel]
        output = tuple(int(rng.integers(1, n - k + 1)) for n, k in zip(sizes, kernel, strict=True))
        dtype = [np.float32, np.float64][i % 2]
        x, samples = rng.standard_normal((*shape, *sizes)).astype(dtype), rng.random((*(1, *shape)[-2:], rank)).astype(dtype)
        name = f"fractional_max_pool{rank}d"
        ours, theirs = tg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        out = getattr(tg, name)(ours, kernel, output, return_indices=True, _random_samples=tg.tensor(samples))
        expected = getattr(torch.nn.functional, name)(
            theirs, kernel, output, return_indices=True, _random_samples=torch.tensor(samples)
        )
        np.testing.assert_array_equal(out[0].detach().numpy(), expected[0].detach().numpy())
        np.testing.assert_array_equal(out[1].numpy(), expected[1].numpy())
        upstream = rng.standard_normal(out[0].shape).astype(dtype)
        out[0].backward(tg.tensor(upstream))
        expected[0].backward(torch.tensor(upstream))
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)


def test_fractional_max_pool_follows_the_seed():
    x = tg.randn(2, 3, 12, 12)
    tg.manual_seed(7)
    first = tg.fractional_max_pool2d(x, 2, output_ratio=(0.6, 0.5))
    again = tg.fractional_max_pool2d(x, 2, output_ratio=(0.6, 0.5))
    tg.manual_seed(7)
    assert first.shape == (2, 3, 7, 6)
    np.testing.assert_array_equal(tg.fractional_max_pool2d(x, 2, output_ratio=(0.6, 0.5)).numpy(), first.numpy())
    assert (again.numpy() != first.numpy()).any()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_unpool_returns_maxima_to_their_places(rank):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(50 + rank)
    for _ in range(10):
        kernel = integers(rng, 2, 3, rank)
        sizes = tuple(k * int(rng.integers(1, 4)) + int(rng.integers(0, k)) for k in kernel)
        x = rng.standard_normal((2, 3, *sizes))
        values, indices = getattr(tg, f"max_pool{rank}d")(tg.tensor(x), kernel, return_indices=True)
        unpool = getattr(tg, f"max_unpool{rank}d")
        values = tg.tensor(values.numpy(), requires_grad=True)
        out = unpool(values, indices, kernel, output_size=(2, 3, *sizes))
        kept = out.detach().numpy() != 0
        np.testing.assert_array_equal(out.detach().numpy()[kept], x[kept])
        assert kept.sum() == values.numel()
        theirs = torch.tensor(values.detach().numpy(), requires_grad=True)
        expected = getattr(torch.nn.functional, f"max_unpool{rank}d")(
            theirs, torch.tensor(indices.numpy()), kernel, output_size=sizes
        )
        np.testing.assert_array_equal(out.detach().numpy(), expected.detach().numpy())
        upstream = rng.standard_normal(out.shape)
        out.backward(tg.tensor(upstream))
        expected.backward(torch.tensor(upstream))
        np.testing.assert_array_equal(values.grad.numpy(), theirs.grad.numpy())


# ---- definitions, ties, NaN, sizes ----------------------------------------------------------------------------------------


def test_hand_computed():
    x = tg.tensor([[[[1.0, 5.0, 2.0], [4.0, 3.0, 9.0], [7.0, 8.0, 6.0]]]])
    values, indices = tg.max_pool2d(x, 2, stride=1, return_indices=True)
    assert values.tolist() == [[[[5.0, 9.0], [8.0, 9.0]]]] and indices.tolist() == [[[[1, 5], [7, 5]]]]
    assert tg.max_pool2d(x, 2).tolist() == [[[[5.0]]]]
    assert tg.max_pool2d(x, 2, ceil_mode=True).tolist() == [[[[5.0, 9.0], [8.0, 6.0]]]]
    assert tg.avg_pool2d(x, 2).tolist() == [[[[3.25]]]]
    assert tg.avg_pool2d(x, 2, ceil_mode=True).tolist() == [[[[3.25, 5.5], [7.5, 6.0]]]]
    assert tg.avg_pool2d(x, 2, padding=1).tolist() == [[[[0.25, 1.75], [2.75, 6.5]]]]
    assert tg.avg_pool2d(x, 2, padding=1, count_include_pad=False).tolist() == [[[[1.0, 3.5], [5.5, 6.5]]]]
    assert tg.avg_pool2d(x, 2, divisor_override=1).tolist() == [[[[13.0]]]]
    assert tg.lp_pool1d(tg.tensor([[3.0, 4.0]]), 2, 2).tolist() == [[5.0]]
    assert tg.adaptive_avg_pool2d(x, 1).tolist() == [[[[5.0]]]]
    assert tg.adaptive_max_pool1d(tg.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), 2).tolist() == [[3.0, 5.0]]


@pytest.mark.parametrize("size", [8, 64])
def test_of_equal_maxima_the_first_gets_the_gradient(size):
    x = tg.zeros(40, 3, size, size, requires_grad=True)  # the larger runs in parallel
    values, indices = tg.max_pool2d(x, 2, return_indices=True)
    values.sum().backward()
    expected = np.zeros((size, size))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(x.grad.numpy(), np.broadcast_to(expected, x.shape))
    assert indices.numpy()[0, 0, 0].tolist() == list(range(0, size, 2))
    np.testing.assert_array_equal(
        tg.max_pool2d(x.detach(), 3, stride=2, padding=1, return_indices=True).indices.numpy()[0, 0, 1, 1:3],
        [size + 1, size + 3],
    )


@pytest.mark.parametrize("jit", [True, False])
def test_nan_and_infinity_pass_as_in_torch(jit):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(60)
    for rank in (1, 2, 3):
        for usual in (True, False):
            x = rng.integers(-1, 2, (2, 3, *(7,) * rank)).astype(np.float32)
            x[rng.random(x.shape) < 0.15] = np.nan
            x[rng.random(x.shape) < 0.3] = -np.inf
            arguments = (2,) if usual else (3, 2, 1)
            context = tg.no_grad() if jit else tg.kernels.disabled()
            with context:
                values, indices = getattr(tg, f"max_pool{rank}d")(tg.tensor(x), *arguments, return_indices=True)
            expected = getattr(torch.nn.functional, f"max_pool{rank}d")(torch.tensor(x), *arguments, return_indices=True)
            np.testing.assert_array_equal(values.numpy(), expected[0].numpy())
            np.testing.assert_array_equal(indices.numpy(), expected[1].numpy())


def test_integers_have_maxima_and_those_of_64_bits_means():
    x = tg.arange(16).reshape(1, 1, 4, 4)
    assert tg.max_pool2d(x, 2).tolist() == [[[[5, 7], [13, 15]]]] and tg.max_pool2d(x, 2).dtype == tg.int64
    assert tg.avg_pool2d(x, 2).tolist() == [[[[2, 4], [10, 12]]]]
    with pytest.raises(TypeError, match="avg_pool2d: expected floats, got int32"):
        tg.avg_pool2d(x.int(), 2)
    with pytest.raises(TypeError, match="max_pool2d: expected numbers, got bool"):
        tg.max_pool2d(x > 3, 2)


def test_number_of_windows():
    """By the definition: windows start a stride apart at -padding, and fit, or with ceil_mode start before the end of the input."""
    for size in range(1, 12):
        for kernel in range(1, 5):
            for stride in range(1, 5):
                for padding in range(kernel // 2 + 1):
                    starts = range(-padding, size, stride)
                    fitting = [s for s in starts if s + kernel <= size + padding]
                    assert max(0, pooled_size(size, kernel, stride, padding)) == len(fitting)
                    if kernel <= size + 2 * padding:
                        reaching = [s for s in starts if s in fitting or s - stride + kernel < size + padding]
                        assert pooled_size(size, kernel, stride, padding, ceil_mode=True) == len(reaching)


def test_gradient_of_lp_pool_is_zero_where_the_powers_sum_to_zero():
    x = tg.tensor([[[0.0, 0.0, 1.0, -1.0]]], requires_grad=True)
    tg.lp_pool1d(x, 3, 2).sum().backward()
    assert x.grad.tolist() == [[[0.0, 0.0, 0.0, 0.0]]]


def test_gradients_by_finite_differences():
    rng = np.random.default_rng(70)
    x = tg.tensor(rng.permutation(72).reshape(2, 1, 6, 6) / 10.0, requires_grad=True)
    for pool in (
        lambda x: tg.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        lambda x: tg.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        lambda x: tg.adaptive_max_pool2d(x, (4, 2)),
        lambda x: tg.adaptive_avg_pool2d(x, (4, 2)),
        lambda x: tg.lp_pool2d(x + 1, 3, 2),
    ):
        assert gradcheck(pool, (x,))
        assert gradgradcheck(lambda x, pool=pool: pool(x) ** 2, (x,))


def test_empty_batch():
    x = tg.zeros(0, 3, 4, 4, requires_grad=True)
    for out in (
        tg.max_pool2d(x, 2),
        tg.avg_pool2d(x, 2),
        tg.lp_pool2d(x, 2, 2),
        tg.adaptive_avg_pool2d(x, 2),
        tg.adaptive_max_pool2d(x, 2),
    ):
        assert out.shape == (0, 3, 2, 2)
        out.sum().backward()
    assert x.grad.shape == (0, 3, 4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tg.max_pool2d(x, 2, padding=2), r"max_pool2d: padding 2 on axis -2 must be at most half the kernel size 2"),
        (lambda x: tg.avg_pool2d(x, 3, padding=(1, 2)), r"avg_pool2d: padding 2 on axis -1 must be at most half"),
        (lambda x: tg.max_pool2d(x, 7), r"max_pool2d: a window of size 7 .* does not fit into axis -2"),
        (lambda x: tg.max_pool1d(x, 2), r"max_pool1d: input must have shape \(N, C, length\)"),
        (lambda x: tg.max_pool2d(x, (2, 2, 2)), r"kernel_size must be an integer of at least 1 or a tuple of 2"),
        (lambda x: tg.max_pool2d(x, 2, stride=0), r"stride must be an integer of at least 1"),
        (lambda x: tg.max_pool2d(x[..., :1, :1], 2, 1, 1, 2), "holds nothing but padding"),
        (lambda x: tg.avg_pool2d(x, 2, divisor_override=0), "divisor_override must not be zero"),
        (lambda x: tg.adaptive_avg_pool2d(x, (2, 2, 2)), "output_size must be an integer of at least 0 or a tuple of 2"),
        (lambda x: tg.fractional_max_pool2d(x, 2), "give either output_size or output_ratio"),
        (lambda x: tg.fractional_max_pool2d(x, 2, output_ratio=1.5), "output_ratio must be a number between 0 and 1"),
        (lambda x: tg.fractional_max_pool2d(x, 3, output_size=5), "windows of size 3 do not fit into axis -2"),
        (lambda x: tg.lp_pool2d(x, 0, 2), "norm_type must be a number other than 0"),
        (lambda x: tg.max_unpool2d(x, tg.zeros(1, 1, 2, 2, dtype=tg.int64), 2), "must have the shape of the input"),
        (
            lambda x: tg.max_unpool2d(x, tg.zeros(1, 3, 6, 6, dtype=tg.int64), 2, output_size=(20, 20)),
            "must lie between 10 and 14",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(tg.zeros(1, 3, 6, 6))


def test_max_unpool_checks_its_indices():
    x = tg.zeros(1, 1, 2, 2)
    with pytest.raises(IndexError, match=r"indices must be from 0 to 15 .* got 0 to 16"):
        tg.max_unpool2d(x, tg.tensor([[[[0, 1], [2, 16]]]]), 2)
    with pytest.raises(TypeError, match="indices must be int64"):
        tg.max_unpool2d(x, x, 2)


# ---- kernels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [0, 1 << 62], ids=["parallel", "serial"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_agree_with_the_references(monkeypatch, below, dtype):
    pytest.importorskip("numba")
    from tinygrad_cv.ops.cpu import pool

    monkeypatch.setattr(pool, "_SERIAL_BELOW", below)
    rng = np.random.default_rng(80)
    layouts = (np.ascontiguousarray, np.asfortranarray, lambda a: a[..., ::-1])
    for i in range(24):
        rank = i % 3 + 1
        kernel, stride = ((2,) * rank, (2,) * rank) if i % 4 == 0 else (integers(rng, 1, 4, rank), integers(rng, 1, 3, rank))
        padding = (0,) * rank if i % 4 == 0 else tuple(k // 2 for k in kernel)
        sizes = [k + int(rng.integers(0, 20 if rank < 3 else 4)) for k in kernel]
        array = layouts[i % 5 % 3](rng.standard_normal((3, 4, *sizes)).astype(dtype))
        output = integers(rng, 1, 5, rank)
        results = []
        for use in (True, False):
            x = tg.tensor(np.zeros(array.shape, dtype), requires_grad=True)
            x._data = array
            context = tg.enable_grad() if use else tg.kernels.disabled()
            with context:
                values, indices = getattr(tg, f"max_pool{rank}d")(x, kernel, stride, padding, 1, bool(i % 2), True)
                outs = [values, getattr(tg, f"avg_pool{rank}d")(x, kernel, stride, padding, bool(i % 2))]
                outs.append(getattr(tg, f"adaptive_max_pool{rank}d")(x, output))
                outs.append(getattr(tg, f"adaptive_avg_pool{rank}d")(x, output))
                grads = [tg.autograd.grad((o * o).sum(), [x])[0] for o in outs]
                results.append([t.detach().numpy() for t in (*outs, *grads)] + [indices.numpy()])
        for with_kernel, reference in zip(*results, strict=True):
            assert with_kernel.dtype == reference.dtype
            np.testing.assert_allclose(with_kernel, reference, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-13)


def test_an_index_outside_of_its_plane_is_refused() -> None:
    """The kernels that follow indices never touch memory that is not theirs."""
    grad, inside = tg.ones(2, 3, 2, 2), tg.zeros(2, 3, 2, 2, dtype=tg.int64)
    for wrong in (16, -1, 2**40):
        indices = inside.clone()
        indices[1, 2, 1, 1] = wrong
        with pytest.raises(IndexError, match="max_pool_input_grad: an index is outside of the 16 elements"):
            tg.max_pool_input_grad(grad, indices, (4, 4))
        with pytest.raises(IndexError, match="max_pool_gather: an index is outside of the 16 elements"):
            tg.max_pool_gather(tg.ones(2, 3, 4, 4), indices, 2)
    with pytest.raises(ValueError, match=r"max_pool_input_grad: indices of shape \(2, 3, 2, 2\)"):
        tg.max_pool_input_grad(tg.ones(2, 3, 2), inside, (4, 4))
    with pytest.raises(ValueError, match="max_pool_gather: indices"):
        tg.max_pool_gather(tg.ones(1, 3, 4, 4), inside, 2)
