"""Normalisation, distances and embeddings against PyTorch in float64: values, running statistics, first and second derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from functional_comparison import both, compare

import tinygrad_cv as tg
from tinygrad_cv import kernels

SHAPES = [(4, 3), (2, 3, 5), (2, 3, 4, 2), (2, 3, 2, 2, 2), (1, 3, 4, 4)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def affine(rng, *shape):
    """Every combination of weight and bias given or not."""
    weight, bias = rng.random(shape) + 0.5, rng.standard_normal(shape)
    return [(weight, bias), (weight, None), (None, bias), (None, None)]


def of_both(name, *before, **options):
    """Both libraries' `name(input, *before, weight, bias, **options)`."""
    torch = pytest.importorskip("torch")

    def ours(x, w, b):
        return getattr(tg, name)(x, *(tg.tensor(f) if isinstance(f, np.ndarray) else f for f in before), w, b, **options)

    def theirs(x, w, b):  # a missing weight as ones: some of PyTorch's second derivatives fail without one
        shape = before[0] if name == "layer_norm" else x.shape[1:2]
        w = torch.ones(shape, dtype=x.dtype, requires_grad=True) if w is None else w
        b = torch.zeros(shape, dtype=x.dtype, requires_grad=True) if b is None else b
        fixed = (torch.tensor(f) if isinstance(f, np.ndarray) else f for f in before)
        return getattr(torch.nn.functional, name)(x, *fixed, w, b, **options)

    return ours, theirs


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_agrees_with_pytorch(rng, shape):
    x = rng.standard_normal(shape) * 2 + 1
    for weight, bias in affine(rng, 3):
        compare(*of_both("batch_norm", None, None, training=True), x, weight, bias)
        compare(*of_both("batch_norm", rng.standard_normal(3), rng.random(3) + 0.5, eps=1e-3), x, weight, bias)


def test_batch_norm_moves_the_running_statistics_as_pytorch_does(rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((4, 3, 5)) * 3 + 2
    start = rng.standard_normal(3), rng.random(3) + 0.5
    ours, theirs = [tg.tensor(s) for s in start], [torch.tensor(s) for s in start]
    memory = [t.data_ptr() for t in ours]
    for momentum in (0.1, 0.25, 1.0):
        tg.batch_norm(tg.tensor(x), *ours, training=True, momentum=momentum)
        torch.nn.functional.batch_norm(torch.tensor(x), *theirs, training=True, momentum=momentum)
        for mine, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.numpy(), their.numpy(), rtol=1e-12)
    assert [t.data_ptr() for t in ours] == memory
    before = [t.numpy().copy() for t in ours]
    tg.batch_norm(tg.tensor(x), *ours, training=False)
    assert all(np.array_equal(b, t.numpy()) for b, t in zip(before, ours, strict=True))


def test_a_kept_evaluation_graph_does_not_stop_the_next_training_step():
    mean, var, weight = tg.zeros(3), tg.ones(3), tg.ones(3, requires_grad=True)
    x = tg.randn(4, 3)
    kept = tg.batch_norm(x, mean, var, weight)
    tg.batch_norm(x + 1, mean, var, weight, training=True)
    kept.sum().backward()
    np.testing.assert_allclose(
        weight.grad.numpy(), x.numpy().sum(0), rtol=1e-4, atol=1e-5
    )  # of mean 0 and variance 1, as it was


def test_batch_norm_output_has_mean_zero_and_variance_one(rng):
    x = tg.tensor((rng.standard_normal((8, 4, 6, 6)) * 5 + 100).astype("float32"))
    out = tg.batch_norm(x, None, None, training=True).numpy()
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.var((0, 2, 3)), 1, rtol=1e-4)


def test_float32_normalisation_keeps_its_digits_far_from_zero(rng):
    values = rng.standard_normal((4, 3, 64)) + 1e4
    exact = np.float32(values).astype(np.float64)
    expected = (exact - exact.mean((0, 2), keepdims=True)) / np.sqrt(exact.var((0, 2), keepdims=True) + 1e-5)
    out = tg.batch_norm(tg.tensor(np.float32(values)), None, None, training=True)
    np.testing.assert_allclose(out.numpy(), expected, atol=2e-3)  # one unit in the last place of 1e4 is 1e-3


@pytest.mark.parametrize(
    "shape, normalized", [((4, 5), (5,)), ((2, 3, 4), (4,)), ((2, 3, 4), (3, 4)), ((6,), (6,)), ((2, 3, 1), (1,))]
)
def test_layer_norm_agrees_with_pytorch(rng, shape, normalized):
    for weight, bias in affine(rng, *normalized):
        compare(*of_both("layer_norm", normalized), rng.standard_normal(shape) * 2 + 1, weight, bias, tolerance=1e-8)


@pytest.mark.parametrize(
    "shape, groups", [((2, 4, 3), 2), ((2, 6, 2, 2), 3), ((2, 6, 2, 2), 1), ((3, 4), 2), ((1, 4, 2, 1, 3), 4)]
)
def test_group_norm_agrees_with_pytorch(rng, shape, groups):
    for weight, bias in affine(rng, shape[1]):
        compare(*of_both("group_norm", groups), rng.standard_normal(shape) * 2 + 1, weight, bias)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 2), (1, 3, 2, 2, 2)])
def test_instance_norm_agrees_with_pytorch(rng, shape):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal(shape) * 2 + 1
    running = rng.standard_normal(3), rng.random(3) + 0.5
    for weight, bias in affine(rng, 3):
        compare(*of_both("instance_norm", None, None), x, weight, bias)
        compare(*of_both("instance_norm", *running, use_input_stats=False), x, weight, bias)
    ours, theirs = [tg.tensor(s) for s in running], [torch.tensor(s) for s in running]
    tg.instance_norm(tg.tensor(x), *ours, momentum=0.3)
    torch.nn.functional.instance_norm(torch.tensor(x), *theirs, momentum=0.3)
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), their.numpy(), rtol=1e-12)


def test_rms_norm_agrees_with_pytorch(rng):
    for weight in (None, rng.random(4) + 0.5):
        for eps in (None, 1e-2):
            options = {} if weight is None else {"weight": weight}
            compare(*both("rms_norm", (4,), eps=eps, **options), rng.standard_normal((3, 4)))


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 7, 2, 2), (1, 2, 2, 1, 2)])
def test_local_response_norm_agrees_with_pytorch(rng, shape):
    for size in (1, 2, 3, 5, 9):
        compare(*both("local_response_norm", size, alpha=0.4, beta=0.6, k=1.5), rng.standard_normal(shape))


@pytest.mark.parametrize("p", [2.0, 1.0, 3.0, math.inf])
def test_normalize_agrees_with_pytorch(rng, p):
    for dim in (0, 1, -1):
        compare(*both("normalize", p, dim), rng.standard_normal((3, 4, 2)), second=p != math.inf)


def test_normalize_leaves_a_zero_vector_zero_with_a_finite_gradient():
    x = tg.zeros(2, 3, requires_grad=True)
    out = tg.normalize(x)
    out.sum().backward()
    assert out.tolist() == [[0.0] * 3] * 2
    assert np.isfinite(x.grad.numpy()).all()


def test_normalisations_refuse_what_does_not_fit():
    x = tg.randn(4, 3, 2)
    with pytest.raises(ValueError, match=r"batch_norm: weight must have shape \(3,\), got \(2,\)"):
        tg.batch_norm(x, None, None, tg.ones(2), training=True)
    with pytest.raises(ValueError, match="more than one value for each channel"):
        tg.batch_norm(tg.randn(1, 3), None, None, training=True)
    with pytest.raises(ValueError, match="running_mean and running_var must be given"):
        tg.batch_norm(x, None, None)
    with pytest.raises(ValueError, match=r"input must have shape \(N, C"):
        tg.batch_norm(tg.randn(3), None, None, training=True)
    with pytest.raises(TypeError, match="floating"):
        tg.batch_norm(tg.ones(4, 3, dtype="int64"), None, None, training=True)
    with pytest.raises(TypeError, match="one dtype"):
        tg.batch_norm(x, None, None, tg.ones(3, dtype="float64"), training=True)
    with pytest.raises(ValueError, match=r"normalized_shape \(3,\).*\(4, 3, 2\)"):
        tg.layer_norm(x, 3)
    with pytest.raises(ValueError, match="num_groups=2 must divide the 3 channels"):
        tg.group_norm(x, 2)
    with pytest.raises(ValueError, match="more than one spatial element"):
        tg.instance_norm(tg.randn(2, 3, 1))
    with pytest.raises(ValueError, match="size must be at least 1"):
        tg.local_response_norm(x, 0)


@pytest.mark.parametrize(
    "name, shape, options",
    [
        ("batch_norm", (2, 3, 37), {"running_mean": None, "running_var": None, "training": True}),
        ("batch_norm", (16, 33, 5, 5), {"running_mean": None, "running_var": None, "training": True}),
        ("batch_norm", (1025, 7), {"running_mean": None, "running_var": None, "training": True}),
        ("layer_norm", (33, 1025), {"normalized_shape": (1025,)}),
        ("layer_norm", (3, 2049), {"normalized_shape": (2049,)}),
        ("group_norm", (3, 8, 13, 11), {"num_groups": 4}),
    ],
)
def test_kernels_agree_with_the_references_on_sizes_that_fill_no_block(rng, name, shape, options):
    channels = shape[-1:] if name == "layer_norm" else shape[1:2]
    arrays = [
        rng.standard_normal(shape) * 3 + 5,
        rng.random(channels) + 0.5,
        rng.standard_normal(channels),
        rng.standard_normal(shape),
    ]

    def run(dtype):
        x, w, b, upstream = (tg.tensor(a.astype(dtype)) for a in arrays)
        leaves = [t.requires_grad_() for t in (x, w, b)]
        out = getattr(tg, name)(x, weight=w, bias=b, **options)
        return [t.detach().numpy() for t in (out, *tg.autograd.grad(out, leaves, upstream))]

    fast = run("float32")
    with kernels.disabled():
        exact = run("float64")
    for f, e in zip(fast, exact, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-5 * np.abs(e).max())


def test_distances_agree_with_pytorch(rng):
    a, b = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    for p in (2.0, 1.0, 3.0, 0.5, math.inf):
        for keepdim in (False, True):
            compare(*both("pairwise_distance", p, 1e-6, keepdim), a, b, second=p != math.inf, tolerance=1e-8)
        compare(*both("pdist", p), a, second=False)
    for dim in (0, 1, -1):
        compare(*both("cosine_similarity", dim), a, b)
        compare(*both("cosine_similarity", dim), a, b[:1])


@pytest.mark.parametrize("p", [2.0, 1.0, 3.0, 0.5, 0.0, math.inf])
@pytest.mark.parametrize(
    "shapes", [((3, 4), (5, 4)), ((2, 3, 4), (2, 5, 4)), ((2, 1, 3, 4), (5, 4)), ((30, 4), (5, 4)), ((3, 0), (2, 0))]
)
def test_cdist_agrees_with_pytorch(rng, p, shapes):
    torch = pytest.importorskip("torch")
    compare(lambda a, b: tg.cdist(a, b, p), lambda a, b: torch.cdist(a, b, p), *(rng.standard_normal(s) for s in shapes), second=False,
            tolerance=1e-8)  # fmt: skip


def test_cdist_of_coincident_points_is_zero_with_gradient_zero():
    points = tg.tensor([[0.0, 1.0], [2.0, 3.0]], requires_grad=True)
    for p in (1.0, 2.0, 3.0, math.inf):
        points.grad = None
        distances = tg.cdist(points, points.detach().clone(), p)
        assert distances[0, 0].item() == distances[1, 1].item() == 0
        (distances * tg.eye(2)).sum().backward()
        assert points.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]], p


def test_cdist_uses_little_memory_for_many_points(rng):
    import tracemalloc

    a, b = tg.rand(200, 500), tg.rand(300, 500)
    tracemalloc.start()
    tg.cdist(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # the differences alone would take 120 MB


def test_cosine_similarity_of_a_zero_vector_is_zero():
    x = tg.zeros(1, 3, requires_grad=True)
    out = tg.cosine_similarity(x, tg.ones(1, 3))
    out.sum().backward()
    assert out.tolist() == [0.0] and np.isfinite(x.grad.numpy()).all()


def test_embedding_agrees_with_pytorch(rng):
    torch = pytest.importorskip("torch")
    table = rng.standard_normal((6, 3))
    for shape in ((), (4,), (2, 3), (0,)):
        index = np.asarray(rng.integers(0, 6, shape))
        for padding in (None, 2, -1):
            for by_frequency in (False, True):
                options = {"padding_idx": padding, "scale_grad_by_freq": by_frequency}
                compare(
                    lambda w, i=index, o=options: tg.embedding(tg.tensor(i), w, **o),
                    lambda w, i=index, o=options: torch.nn.functional.embedding(torch.tensor(i), w, **o),
                    table,
                    second=not by_frequency,
                )


def test_embedding_scales_long_rows_down_in_place(rng):
    torch = pytest.importorskip("torch")
    table, index = rng.standard_normal((6, 3)) * 2, np.array([0, 3, 3, 5])
    ours, theirs = tg.tensor(table), torch.tensor(table)
    out = tg.embedding(tg.tensor(index), ours, max_norm=1.0)
    expected = torch.nn.functional.embedding(torch.tensor(index), theirs, max_norm=1.0)
    np.testing.assert_allclose(out.numpy(), expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
    parameter = tg.tensor(table, requires_grad=True)
    tg.embedding(tg.tensor(index), parameter, max_norm=1.0).sum().backward()
    assert parameter.grad.numpy()[3].tolist() == [2.0, 2.0, 2.0]


def test_embedding_adds_the_gradients_of_equal_indices():
    table = tg.zeros(1000, 8, requires_grad=True)
    index = tg.tensor(np.arange(20000) % 7)
    tg.embedding(index, table).sum().backward()
    expected = np.zeros(1000)
    expected[:7] = np.bincount(np.arange(20000) % 7)
    assert np.array_equal(table.grad.numpy(), np.repeat(expected[:, None], 8, 1))


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
@pytest.mark.parametrize("padding", [None, 1])
def test_embedding_bag_agrees_with_pytorch(rng, mode, padding):
    torch = pytest.importorskip("torch")
    table = rng.standard_normal((6, 3))
    bags, flat, offsets = rng.integers(0, 6, (4, 3)), rng.integers(0, 6, 7), np.array([0, 2, 2, 6])
    samples = rng.random(7)
    cases = [(bags, None, {}), (flat, offsets, {}), (flat, np.array([0, 2, 2, 6, 7]), {"include_last_offset": True})]
    if mode == "sum":
        cases.append((flat, offsets, {"per_sample_weights": samples}))
    for index, starts, options in cases:

        def call(library, w, index=index, starts=starts, options=options):
            function = tg.embedding_bag if library is tg else torch.nn.functional.embedding_bag
            named = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
            where = None if starts is None else library.tensor(starts)
            return function(library.tensor(index), w, where, mode=mode, padding_idx=padding, **named)

        compare(lambda w, call=call: call(tg, w), lambda w, call=call: call(torch, w), table, second=False)


def test_a_bag_of_padding_alone_gives_zeros_and_a_gradient_of_zeros():
    for mode in ("mean", "sum", "max"):
        table = tg.ones(3, 2, requires_grad=True)
        out = tg.embedding_bag(tg.tensor([[1, 1]]), table, mode=mode, padding_idx=1)
        out.sum().backward()
        assert out.tolist() == [[0.0, 0.0]] and not table.grad.numpy().any()


def test_embedding_refuses_what_does_not_fit():
    table = tg.zeros(4, 2)
    with pytest.raises(IndexError, match=r"embedding: index 4 at \(1,\).*4 rows"):
        tg.embedding(tg.tensor([0, 4]), table)
    with pytest.raises(IndexError, match="index -1"):
        tg.embedding(tg.tensor([0, -1]), table)
    with pytest.raises(TypeError, match="indices must be integers"):
        tg.embedding(tg.tensor([0.0]), table)
    with pytest.raises(IndexError, match="padding_idx=4"):
        tg.embedding(tg.tensor([0]), table, padding_idx=4)
    with pytest.raises(ValueError, match="sparse"):
        tg.embedding(tg.tensor([0]), table, sparse=True)
    with pytest.raises(ValueError, match="offsets"):
        tg.embedding_bag(tg.tensor([0, 1]), table)
    with pytest.raises(ValueError, match=r"cdist: .*\(2, 3\) and \(2, 4\)"):
        tg.cdist(tg.zeros(2, 3), tg.zeros(2, 4))


@pytest.mark.parametrize("shape", [(1031, 257), (70, 1500), (3, 20_000), (16_400, 9), (7, 12, 1033), (5, 6, 40, 41)])
def test_normalisation_kernels_are_exact_and_the_same_at_any_number_of_threads(shape):
    """All gradients beside float64, with a mean far from zero; bits do not depend on threads."""
    rng = np.random.default_rng(4)
    x, upstream = (
        rng.standard_normal(shape) + 3 * rng.standard_normal((shape[0],) + (1,) * (len(shape) - 1)) for _ in range(2)
    )
    x, upstream = x.astype(np.float32), upstream.astype(np.float32)
    channels, width = shape[1], shape[-1]

    def run(name, dtype):
        size = width if name == "layer_norm" else channels
        weight, bias = np.linspace(0.5, 1.5, size), np.linspace(-1, 1, size)
        given = [tg.from_numpy(a.astype(dtype)).requires_grad_() for a in (x, weight, bias)]
        if name == "batch_norm":
            out = tg.batch_norm(given[0], None, None, *given[1:], True)
        elif name == "layer_norm":
            out = tg.layer_norm(given[0], (width,), *given[1:])
        else:
            out = tg.group_norm(given[0], 2 - channels % 2, *given[1:])
        out.backward(tg.from_numpy(upstream.astype(dtype)))
        return [out.detach().numpy(), *(t.grad.numpy() for t in given)]

    threads = tg.get_num_threads()
    try:
        for name in ("batch_norm", "layer_norm", "group_norm"):
            exact = run(name, np.float64)
            results = []
            for number in (1, threads):
                tg.set_num_threads(number)
                results.append(run(name, np.float32))
            for one, two, expected in zip(*results, exact, strict=True):
                assert np.array_equal(one, two), name
                assert np.abs(one - expected).max() <= 2e-5 * np.abs(expected).max(), name
    finally:
        tg.set_num_threads(threads)


@pytest.mark.parametrize("size", [1, 7, 49, 200])
def test_batch_norm_keeps_its_digits_where_the_first_elements_are_no_guess_of_the_mean(size):
    rng = np.random.default_rng(8)
    x = rng.standard_normal((40, 3, size)) + 50
    x[::5, 1, :32] += 1e4  # the first elements of images that lie evenly
    x = x.astype(np.float32)
    out = tg.batch_norm(tg.from_numpy(x), None, None, training=True).numpy()
    wide = x.astype(np.float64)
    mean, deviation = wide.mean((0, 2), keepdims=True), np.sqrt(wide.var((0, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(out, (wide - mean) / deviation, rtol=1e-4, atol=1e-4)
