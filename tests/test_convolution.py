"""Convolutions against PyTorch, against their definition, and against each other as adjoints; the kernels against the references."""

import numpy as np
import pytest
from tinygrad_cv.ops import sliding

import tinygrad_cv as tg
from tinygrad_cv.testing import gradcheck, gradgradcheck


def integers(rng, low, high, count):
    return tuple(int(i) for i in rng.integers(low, high + 1, count))


def conv_case(rng, rank, scale=1):
    """Arrays and attributes of a convolution that fits, every attribute at work."""
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel, dilation = integers(rng, 1, 4 if rank < 3 else 3, rank), integers(rng, 1, 2, rank)
    if rng.integers(4) == 0:
        stride, padding, room = (1,) * rank, str(rng.choice(["same", "valid"])), (0,) * rank
    else:
        stride, padding = integers(rng, 1, 3, rank), integers(rng, 0, 2, rank)
        room = padding
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, room, strict=True)]
    sizes = [n + int(rng.integers(0, 5 * scale if rank < 3 else 3)) for n in least]
    c_in, c_out = groups * int(rng.integers(1, 2 + scale)), groups * int(rng.integers(1, 3 + 2 * scale))
    lead = [(1,), (3,), ()][rng.integers(3)]
    arrays = [rng.standard_normal((*lead, c_in, *sizes)), rng.standard_normal((c_out, c_in // groups, *kernel))]
    arrays.append(rng.standard_normal(c_out) if rng.integers(2) else None)
    return arrays, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def transposed_case(rng, rank):
    groups = int(rng.choice([1, 1, 2]))
    kernel, dilation, stride = integers(rng, 1, 3, rank), integers(rng, 1, 3, rank), integers(rng, 1, 3, rank)
    extra = tuple(int(rng.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True))
    padding = integers(rng, 0, 1, rank)
    sizes = [int(rng.integers(1, 4)) + 2 * p for p in padding]
    c_in, c_out = groups * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    lead = [(1,), (3,), ()][rng.integers(3)]
    arrays = [rng.standard_normal((*lead, c_in, *sizes)), rng.standard_normal((c_in, c_out, *kernel))]
    arrays.append(rng.standard_normal(c_out * groups) if rng.integers(2) else None)
    return arrays, {
        "stride": stride, "padding": padding, "output_padding": extra, "groups": groups, "dilation": dilation,
    }  # fmt: skip


def compare_with_torch(name, arrays, attributes, rng):
    """Value, gradients of a random upstream, and their gradients, all in float64."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # two spinning thread pools in one process slow each other down
    ours = [None if a is None else tg.tensor(a, requires_grad=True) for a in arrays]
    theirs = [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]
    out, expected = getattr(tg, name)(*ours, **attributes), getattr(torch.nn.functional, name)(*theirs, **attributes)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    seed = rng.standard_normal(expected.shape)
    upstream, torch_upstream = tg.tensor(seed, requires_grad=True), torch.tensor(seed, requires_grad=True)
    ours, theirs = [t for t in ours if t is not None], [t for t in theirs if t is not None]
    first = tg.autograd.grad(out, ours, upstream, create_graph=True)
    expected_first = torch.autograd.grad(expected, theirs, torch_upstream, create_graph=True)
    for a, b in zip(first, expected_first, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-10)
    directions = [rng.standard_normal(b.shape) for b in expected_first]
    total = sum((a * tg.tensor(d)).sum() for a, d in zip(first, directions, strict=True))
    torch_total = sum((b * torch.tensor(d)).sum() for b, d in zip(expected_first, directions, strict=True))
    second = tg.autograd.grad(total, [*ours, upstream], allow_unused=True)
    expected_second = torch.autograd.grad(torch_total, [*theirs, torch_upstream], allow_unused=True)
    for a, b in zip(second, expected_second, strict=True):
        want = 0.0 if b is None else b.numpy()
        np.testing.assert_allclose(0.0 if a is None else a.numpy(), want, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_agrees_with_torch_to_second_order(rank):
    rng = np.random.default_rng(rank)
    for _ in range(25):
        compare_with_torch(f"conv{rank}d", *conv_case(rng, rank), rng)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_transpose_agrees_with_torch_to_second_order(rank):
    rng = np.random.default_rng(10 + rank)
    for _ in range(20):
        compare_with_torch(f"conv_transpose{rank}d", *transposed_case(rng, rank), rng)


def test_conv2d_is_the_cross_correlation_of_its_definition():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 4, 6, 5)), rng.standard_normal((6, 2, 3, 2)), rng.standard_normal(6)
    out = tg.conv2d(tg.tensor(x), tg.tensor(w), tg.tensor(b), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2).numpy()
    assert out.shape == (2, 6, 3, 7)
    for n, f, i, j in np.ndindex(*out.shape):
        total = b[f]
        for c, p, q in np.ndindex(2, 3, 2):
            row, column = 2 * i + p - 1, j + 2 * q - 2
            if 0 <= row < 6 and 0 <= column < 5:
                total += w[f, c, p, q] * x[n, f // 3 * 2 + c, row, column]
        assert abs(out[n, f, i, j] - total) < 1e-12


def test_hand_computed():
    x = tg.tensor([[[1.0, 2.0, 4.0, 8.0]]])
    w = tg.tensor([[[1.0, 0.0, -1.0]]])
    assert tg.conv1d(x, w).tolist() == [[[-3.0, -6.0]]]
    assert tg.conv1d(x, w, padding="same").tolist() == [[[-2.0, -3.0, -6.0, 4.0]]]
    assert tg.conv_transpose1d(x, w, stride=2).tolist() == [[[1.0, 0.0, 1.0, 0.0, 2.0, 0.0, 4.0, 0.0, -8.0]]]
    # with an even kernel 'same' pads once more at the end
    assert tg.conv1d(x, tg.tensor([[[1.0, 1.0]]]), padding="same").tolist() == [[[3.0, 6.0, 12.0, 8.0]]]
    assert tg.conv1d(x, tg.tensor([[[1.0, 1.0]]]), padding=((1, 0),)).tolist() == [[[1.0, 3.0, 6.0, 12.0]]]


def test_unbatched_is_a_batch_of_one():
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((3, 7, 7)), rng.standard_normal((4, 3, 3, 3))
    single, batch = tg.conv2d(tg.tensor(x), tg.tensor(w)), tg.conv2d(tg.tensor(x[None]), tg.tensor(w))
    assert single.shape == (4, 5, 5)
    np.testing.assert_array_equal(single.numpy(), batch.numpy()[0])
    back = tg.conv_transpose2d(single, tg.tensor(w))
    assert back.shape == (3, 7, 7)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_three_maps_are_adjoint(rank):
    """<conv(x, w), g> = <x, input_grad(g, w)> = <w, weight_grad(g, x)> for all x, w, g."""
    rng = np.random.default_rng(20 + rank)
    for _ in range(10):
        (x, w, _), attributes = conv_case(rng, rank)
        x, w = tg.tensor(x), tg.tensor(w)
        out = getattr(tg, f"conv{rank}d")(x, w, None, **attributes)
        g = tg.tensor(rng.standard_normal(out.shape))
        expected = (out * g).sum().item()
        by_input = (x * tg.conv_input_grad(g, w, x.shape[-rank:], **attributes)).sum().item()
        by_weight = (w * tg.conv_weight_grad(g, x, w.shape[2:], **attributes)).sum().item()
        assert abs(by_input - expected) < 1e-9 and abs(by_weight - expected) < 1e-9


def test_gradients_by_finite_differences():
    rng = np.random.default_rng(3)
    x, w, b = (tg.tensor(rng.standard_normal(s), requires_grad=True) for s in ((2, 2, 4, 5), (4, 1, 2, 3), (4,)))

    def strided(x, w, b):
        return tg.conv2d(x, w, b, stride=2, padding=1, dilation=(2, 1), groups=2)

    assert gradcheck(strided, (x, w, b)) and gradgradcheck(strided, (x, w, b))


def test_the_first_layer_computes_no_input_gradient(monkeypatch):
    def forbidden(*_):
        raise AssertionError("nobody asked for the gradient of the input")

    monkeypatch.setattr(tg, "conv_input_grad", forbidden, raising=False)
    x, w = tg.randn(2, 1, 6, 6), tg.randn(3, 1, 3, 3, requires_grad=True)
    tg.conv2d(x, w).sum().backward()
    assert w.grad.shape == (3, 1, 3, 3)


def test_graph_shows_one_node_called_conv2d():
    out = tg.conv2d(tg.randn(1, 2, 5, 5), tg.randn(3, 2, 3, 3, requires_grad=True), padding=1)
    assert out.grad_fn.op.name == "conv2d"


# ---- the matrix -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attributes", [{}, {"padding": 1}, {"stride": 2, "padding": (1, 0)}, {"dilation": 2, "groups": 2}])
def test_the_matrix_is_the_convolution(attributes):
    rng = np.random.default_rng(4)
    groups = attributes.get("groups", 1)
    x, w = tg.tensor(rng.standard_normal((2, 5, 6))), tg.tensor(rng.standard_normal((4, 2 // groups, 2, 3)), requires_grad=True)
    matrix = tg.conv2d_matrix(w, x.shape, **attributes)
    out = tg.conv2d(x, w, **attributes)
    assert matrix.shape == (out.numel(), x.numel())
    np.testing.assert_allclose((matrix @ x.flatten()).detach().numpy(), out.flatten().detach().numpy(), atol=1e-12)
    g = tg.tensor(rng.standard_normal(out.shape))
    back = (matrix.mT @ g.flatten()).reshape(x.shape)
    np.testing.assert_allclose(
        back.detach().numpy(), tg.conv_input_grad(g, w, (5, 6), **attributes).detach().numpy(), atol=1e-12
    )
    through_matrix = tg.autograd.grad(((matrix @ x.flatten()) * g.flatten()).sum(), [w])[0]
    direct = tg.autograd.grad((out * g).sum(), [w])[0]
    np.testing.assert_allclose(through_matrix.numpy(), direct.numpy(), atol=1e-12)


def test_the_matrix_is_toeplitz_block_by_block():
    matrix = tg.conv2d_matrix(tg.tensor([[[[1.0, 2.0]]]]), (1, 1, 4)).numpy()
    assert matrix.tolist() == [[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2]]


# ---- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "w", "attributes", "message"),
    [
        ((1, 4, 5, 5), (2, 3, 3, 3), {}, r"conv2d: weight of shape \(2, 3, 3, 3\) expects 3 input channels.*has 4 \(axis 1\)"),
        ((4, 5, 5), (2, 3, 3, 3), {}, r"has 4 \(axis 0\)"),
        ((1, 3, 5, 5), (2, 3, 3), {}, "conv2d: weight must have 4 axes"),
        ((1, 1, 3, 5, 5), (2, 3, 3, 3), {}, "conv2d: input must have shape"),
        ((1, 3, 2, 5), (2, 3, 3, 3), {}, "kernel of size 3 with dilation 1 does not fit into axis -2"),
        ((1, 4, 5, 5), (3, 2, 3, 3), {"groups": 2}, "3 output channels .* do not divide into 2 groups"),
        ((1, 3, 5, 5), (2, 3, 3, 3), {"stride": 0}, "stride must be an integer of at least 1"),
        ((1, 3, 5, 5), (2, 3, 3, 3), {"padding": -1}, "padding must be an integer of at least 0"),
        ((1, 3, 5, 5), (2, 3, 3, 3), {"padding": "same", "stride": 2}, "padding='same' needs stride 1"),
        ((1, 3, 5, 5), (2, 3, 3, 3), {"padding": "full"}, "'same' or 'valid'"),
        ((1, 3, 5, 5), (2, 3, 3, 3), {"dilation": (1, 1, 1)}, "dilation must be an integer of at least 1 or a tuple of 2"),
        ((1, 3, 5, 5), (2, 3, 3, 3), {"groups": 0}, "groups must be at least 1"),
    ],
)
def test_conv2d_errors(x, w, attributes, message):
    with pytest.raises(ValueError, match=message):
        tg.conv2d(tg.zeros(*x), tg.zeros(*w), **attributes)


def test_more_errors():
    x, w = tg.zeros(1, 3, 5, 5), tg.zeros(2, 3, 3, 3)
    with pytest.raises(ValueError, match=r"conv2d: bias has shape \(3,\), expected \(2,\)"):
        tg.conv2d(x, w, tg.zeros(3))
    with pytest.raises(TypeError, match="conv2d: expected one dtype, got input float32, weight float64"):
        tg.conv2d(x, w.double())
    with pytest.raises(TypeError, match="stride must be an integer"):
        tg.conv2d(x, w, stride=1.5)
    with pytest.raises(ValueError, match=r"conv_transpose2d: weight of shape .* expects 2 input channels"):
        tg.conv_transpose2d(x, w)
    with pytest.raises(ValueError, match=r"output_padding .* must be smaller than stride"):
        tg.conv_transpose2d(tg.zeros(1, 2, 5, 5), w, stride=2, output_padding=2)
    with pytest.raises(ValueError, match="use less padding"):
        tg.conv_transpose2d(tg.zeros(1, 2, 1, 1), w, padding=2)
    with pytest.raises(ValueError, match="input_shape must be"):
        tg.conv2d_matrix(w, (5, 5))


def test_empty_batch_and_dtypes():
    x, w = tg.zeros(0, 3, 5, 5, requires_grad=True), tg.ones(2, 3, 3, 3, requires_grad=True)
    out = tg.conv2d(x, w)
    assert out.shape == (0, 2, 3, 3)
    out.sum().backward()
    assert x.grad.shape == x.shape and not w.grad.numpy().any()
    assert tg.conv2d(tg.ones(1, 1, 3, 3, dtype=tg.int64), tg.ones(1, 1, 3, 3, dtype=tg.int64)).tolist() == [[[[9]]]]
    for dtype in (tg.float16, tg.float32, tg.float64):
        assert tg.conv2d(tg.ones(1, 3, 4, 4, dtype=dtype), tg.ones(2, 3, 3, 3, dtype=dtype)).dtype == dtype


def test_cost_counts_multiplications_and_additions():
    flops, moved = tg.ops.get("conv2d").cost((2, 3, 8, 8), (4, 3, 3, 3), (4,), 1, 1, 1, 1)
    assert flops == 2 * 4 * 64 * (2 * 27 + 1)
    assert moved == 4 * (2 * 3 * 64 + 4 * 27 + 2 * 4 * 64)
    flops, _ = tg.ops.get("conv_transpose2d").cost((2, 4, 8, 8), (4, 3, 3, 3), None, 1, 1, 0, 1, 1)
    assert flops == 2 * (2 * 4 * 64) * 27


# ---- kernels --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["parallel", "serial"])
def kernels(request, monkeypatch):
    """The kernel module, made to run its parallel or its serial twins whatever the size."""
    pytest.importorskip("numba")
    from tinygrad_cv.ops.cpu import conv

    monkeypatch.setattr(conv, "_SERIAL_BELOW", 0 if request.param == "parallel" else 1 << 62)
    return conv


def references(x, w, b, attributes):
    rank = w.ndim - 2
    groups = attributes["groups"]
    each = (attributes["stride"], attributes["padding"], attributes["dilation"])
    canonical = (*sliding.canonical("conv", w.shape[2:], *each), groups)
    out = sliding.convolve(x, w, b, *canonical)
    x_grad = sliding.convolve_input_grad(out, w, x.shape[-rank:], *canonical)
    return canonical, out, x_grad, sliding.convolve_weight_grad(out, x, w.shape[2:], *canonical)


def agree(actual, expected, dtype):
    assert actual.dtype == dtype and actual.shape == expected.shape
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=2e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_agree_with_the_references(kernels, dtype):
    rng = np.random.default_rng(30)
    for i in range(60):
        arrays, attributes = conv_case(rng, i % 3 + 1, scale=3)
        exact = [None if a is None else a.astype(dtype).astype(np.float64) for a in arrays]
        canonical, out, x_grad, w_grad = references(*exact, attributes)
        x, w, b = (None if a is None else a.astype(dtype) for a in arrays)
        sizes = x.shape[2 - w.ndim :]
        agree(kernels.conv_forward(x, w, b, *canonical), out, dtype)
        g = out.astype(dtype)
        agree(kernels.conv_input_grad(g, w, sizes, *canonical), x_grad, dtype)
        agree(kernels.conv_weight_grad(g, x, w.shape[2:], *canonical), w_grad, dtype)


@pytest.mark.parametrize(
    ("shape", "weight", "stride", "padding", "groups"),
    [
        ((4, 1, 28, 28), (6, 1, 5, 5), 1, 2, 1),  # LeNet's layers, and others that take different ways through the kernels
        ((4, 6, 14, 14), (16, 6, 5, 5), 1, 0, 1),
        ((1, 16, 20, 20), (40, 16, 3, 3), 1, 1, 1),
        ((3, 8, 9, 9), (12, 8, 1, 1), 1, 0, 1),
        ((2, 8, 9, 9), (12, 8, 1, 1), 2, 0, 1),
        ((2, 3, 33, 33), (7, 3, 7, 7), 2, 3, 1),
        ((2, 12, 11, 11), (12, 1, 3, 3), 1, 1, 12),
        ((1, 1, 70, 70), (1, 1, 2, 2), 1, 0, 1),
    ],
)
def test_kernels_on_usual_layers(kernels, shape, weight, stride, padding, groups):
    rng = np.random.default_rng(31)
    x, w = rng.standard_normal(shape).astype(np.float32), rng.standard_normal(weight).astype(np.float32)
    b = rng.standard_normal(weight[0]).astype(np.float32)
    attributes = {"stride": stride, "padding": padding, "dilation": 1, "groups": groups}
    canonical, out, x_grad, w_grad = references(x.astype(float), w.astype(float), b.astype(float), attributes)
    agree(kernels.conv_forward(x, w, b, *canonical), out, np.float32)
    g = out.astype(np.float32)
    agree(kernels.conv_input_grad(g, w, shape[2:], *canonical), x_grad, np.float32)
    agree(kernels.conv_weight_grad(g, x, weight[2:], *canonical), w_grad, np.float32)


def test_small_strips_agree_with_the_references(kernels, monkeypatch):
    """Maps cut into many strips, along the width too, as only large ones otherwise are."""
    from tinygrad_cv.ops.cpu import conv_grid, conv_weight

    planners = conv_grid.planned, conv_weight.plan
    monkeypatch.setattr(conv_grid, "STRIP_BYTES", 1 << 12)
    monkeypatch.setattr(conv_grid, "MOST_BYTES", 1 << 13)
    monkeypatch.setattr(conv_weight, "COPY_BYTES", 1 << 12)
    rng = np.random.default_rng(41)
    for i in range(40):
        for planner in planners:
            planner.cache_clear()
        (x, w, b), attributes = conv_case(rng, i % 3 + 1, scale=[40, 8, 2][i % 3])
        canonical, out, x_grad, w_grad = references(x, w, b, attributes)
        agree(kernels.conv_forward(x, w, b, *canonical), out, np.float64)
        agree(kernels.conv_input_grad(out, w, x.shape[2 - w.ndim :], *canonical), x_grad, np.float64)
        agree(kernels.conv_weight_grad(out, x, w.shape[2:], *canonical), w_grad, np.float64)
    x, w, b, scale = (rng.standard_normal(n) for n in ((2, 40, 9, 9), (7, 40, 3, 3), (7,), (7,)))
    attributes = ((1, 1), (1, 1), (1, 1), 1)
    y = sliding.convolve(x, w, None, *attributes) * scale.reshape(-1, 1, 1) + b.reshape(-1, 1, 1)
    agree(kernels.conv_forward(x, w, b, *attributes, scale=scale, relu=True), np.maximum(y, 0), np.float64)
    for planner in planners:
        planner.cache_clear()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_small_images_agree_with_the_references(kernels, dtype, monkeypatch):
    """Vectors over images: batches that end within a vector, windows that reach beyond the map, taps that meet nothing."""
    from tinygrad_cv.ops.cpu import conv_image_weight, conv_images

    ways = []

    def noted(plain):
        return lambda *arguments: ways.append(plain.__name__) or plain(*arguments)

    for module, name in ((conv_images, "convolve"), (conv_image_weight, "weight_grad")):
        monkeypatch.setattr(module, "_WORTH", 1e9)
        module.worth.cache_clear()

        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    rng = np.random.default_rng(43)
    for i in range(20):
        (x, w, b), attributes = conv_case(rng, i % 2 + 1, scale=3)
        if i % 3:
            attributes["stride"] = (1,) * (i % 2 + 1)
        x = rng.standard_normal((int(rng.choice([32, 45, 64, 96])), *x.shape[1 - w.ndim :]))
        exact = [None if a is None else a.astype(dtype).astype(np.float64) for a in (x, w, b)]
        canonical, out, x_grad, w_grad = references(*exact, attributes)
        x, w, b = (None if a is None else a.astype(dtype) for a in (x, w, b))
        agree(kernels.conv_forward(x, w, b, *canonical), out, dtype)
        agree(kernels.conv_forward(x, w, b, *canonical, relu=True), np.maximum(out, 0), dtype)
        agree(kernels.conv_input_grad(out.astype(dtype), w, x.shape[2 - w.ndim :], *canonical), x_grad, dtype)
        agree(kernels.conv_weight_grad(out.astype(dtype), x, w.shape[2:], *canonical), w_grad, dtype)
    assert ways.count("convolve") > 40 and ways.count("weight_grad") > 8
    conv_images.worth.cache_clear()
    conv_image_weight.worth.cache_clear()


def test_lenets_second_convolution_runs_over_images():
    pytest.importorskip("numba")
    from tinygrad_cv.ops.cpu.conv_images import Window, worth

    forward = Window((14, 14), (10, 10), (5, 5), (1, 1), (0, 0), (1, 1))
    backward = Window((10, 10), (14, 14), (5, 5), (1, 1), (4, 4), (1, 1))
    assert backward.met() == forward.met() == 2500  # no tap outside of the map counts
    assert worth(64, 6, 16, forward, 4) and worth(64, 16, 6, backward, 4)
    assert not worth(1, 16, 6, backward, 4)


def test_scale_and_relu_are_applied_where_results_are_stored(kernels):
    rng = np.random.default_rng(44)
    for shape, weight, stride, groups in (
        ((2, 5, 9, 7), (9, 5, 3, 2), 2, 1),
        ((1, 8, 6, 6), (7, 8, 1, 1), 1, 1),
        ((2, 6, 8, 9), (6, 1, 3, 3), 1, 6),
    ):
        x, w = rng.standard_normal(shape), rng.standard_normal(weight)
        b, scale = rng.standard_normal((2, weight[0]))
        attributes = ((stride, stride), (1, 0), (1, 1), groups)
        y = sliding.convolve(x, w, None, *attributes)
        each = (-1, 1, 1)
        agree(kernels.conv_forward(x, w, b, *attributes, relu=True), np.maximum(y + b.reshape(each), 0), np.float64)
        scaled = y * scale.reshape(each)
        agree(kernels.conv_forward(x, w, b, *attributes, scale=scale), scaled + b.reshape(each), np.float64)
        agree(kernels.conv_forward(x, w, None, *attributes, scale=scale, relu=True), np.maximum(scaled, 0), np.float64)
    x[0, 0, 0, 0] = np.nan
    assert np.isnan(kernels.conv_forward(x, w, None, *attributes, relu=True)[0, 0, 0, 0])


@pytest.mark.parametrize("stride", [(2, 1, 1), (1, 2, 1), (3, 2, 1), (1, 1, 2)])
def test_input_gradients_of_steps_along_some_axes_only(kernels, stride):
    rng = np.random.default_rng(42)
    for kernel in ((1, 1, 1), (1, 1, 2), (2, 3, 1), (3, 2, 2)):
        x, w = rng.standard_normal((2, 4, 5, 6, 7)), rng.standard_normal((6, 2, *kernel))
        attributes = {"stride": stride, "padding": 0, "dilation": 1, "groups": 2}
        canonical, out, x_grad, w_grad = references(x, w, None, attributes)
        agree(kernels.conv_forward(x, w, None, *canonical), out, np.float64)
        agree(kernels.conv_input_grad(out, w, x.shape[2:], *canonical), x_grad, np.float64)
        agree(kernels.conv_weight_grad(out, x, kernel, *canonical), w_grad, np.float64)


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 1), (4, 3), "same"])
def test_large_3x3_convolutions_take_the_way_of_fewer_multiplications(kernels, padding, monkeypatch):
    from tinygrad_cv.ops.cpu import winograd, winograd_weight

    taken = []
    for function in (winograd.forward, winograd.input_grad, winograd_weight.weight_grad):
        module = winograd_weight if function is winograd_weight.weight_grad else winograd
        monkeypatch.setattr(module, function.__name__, lambda *a, f=function, **o: taken.append(f.__name__) or f(*a, **o))
    rng = np.random.default_rng(43)
    for shape, filters in (((3, 32, 20, 21), 40), ((1, 24, 33, 30), 32)):
        x, w = rng.standard_normal(shape).astype(np.float32), rng.standard_normal((filters, shape[1], 3, 3)).astype(np.float32)
        b = rng.standard_normal(filters).astype(np.float32)
        attributes = {"stride": 1, "padding": padding, "dilation": 1, "groups": 1}
        canonical, out, x_grad, w_grad = references(x.astype(float), w.astype(float), b.astype(float), attributes)
        agree(kernels.conv_forward(x, w, b, *canonical), out, np.float32)
        g = out.astype(np.float32)
        agree(kernels.conv_input_grad(g, w, shape[2:], *canonical), x_grad, np.float32)
        agree(kernels.conv_weight_grad(g, x, (3, 3), *canonical), w_grad, np.float32)
        assert taken == ["forward", "input_grad", "weight_grad"]
        taken.clear()
    x[0, 3, 5, 6], canonical = np.inf, ((1, 1), (1, 1), (1, 1), 1)
    expected = sliding.convolve(x.astype(float), w.astype(float), None, *canonical)
    np.testing.assert_array_equal(np.isinf(kernels.conv_forward(x, w, None, *canonical)), np.isinf(expected))


def test_kernels_read_any_layout(kernels):
    rng = np.random.default_rng(32)
    x = rng.standard_normal((9, 8, 3, 2)).transpose(3, 2, 1, 0)[:, :, ::-1]
    w = rng.standard_normal((6, 4, 3, 5))[::1, 1:, :, 1:4]
    canonical, out, x_grad, w_grad = references(x, w, None, {"stride": 1, "padding": 1, "dilation": 1, "groups": 1})
    agree(kernels.conv_forward(x, w, None, *canonical), out, np.float64)
    g = np.asfortranarray(out)
    agree(kernels.conv_input_grad(g, w, x.shape[2:], *canonical), x_grad, np.float64)
    agree(kernels.conv_weight_grad(g, x, w.shape[2:], *canonical), w_grad, np.float64)


def test_kernels_keep_infinities_where_they_belong(kernels):
    """The padding between rows is computed with and dropped: an infinite input must not leak out of it."""
    x, w, g = np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3))
    x[0, 0, 0, 0] = np.inf
    attributes = ((1, 1), (0, 0), (1, 1), 1)
    np.testing.assert_array_equal(kernels.conv_forward(x, w, None, *attributes), sliding.convolve(x, w, None, *attributes))
    expected = sliding.convolve_weight_grad(g, x, (2, 2), *attributes)
    np.testing.assert_array_equal(kernels.conv_weight_grad(g, x, (2, 2), *attributes), expected)
    w[0, 0, 1, 1] = np.inf  # left to the reference, which multiplies it by no padding
    assert kernels.conv_input_grad(g, w, (4, 4), *attributes) is NotImplemented
    assert np.isfinite(tg.conv_input_grad(tg.tensor(g), tg.tensor(w), (4, 4)).numpy()[0, 0, 0]).all()


@pytest.mark.parametrize(
    ("shape", "weight", "stride", "groups"),
    [
        ((8, 6, 14, 14), (16, 6, 5, 5), 1, 1),
        ((64, 6, 14, 14), (16, 6, 5, 5), 1, 1),
        ((1, 16, 30, 30), (24, 16, 3, 3), 2, 1),
        ((3, 70, 9, 9), (13, 70, 1, 1), 1, 1),
        ((2, 12, 17, 17), (12, 1, 3, 3), 1, 12),
        ((4, 40, 6, 6), (20, 20, 3, 3), 1, 2),
    ],
)
def test_thread_count_does_not_change_values(shape, weight, stride, groups):
    pytest.importorskip("numba")
    from tinygrad_cv.ops.cpu import conv

    from tinygrad_cv.kernels import threads

    rng = np.random.default_rng(33)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in (shape, weight))
    attributes = ((stride, stride), (1, 1), (1, 1), groups)
    out = conv.conv_forward(x, w, None, *attributes)
    back = conv.conv_input_grad(out, w, shape[2:], *attributes)
    weights = conv.conv_weight_grad(out, x, weight[2:], *attributes)
    with threads.serial():
        np.testing.assert_array_equal(conv.conv_forward(x, w, None, *attributes), out)
        np.testing.assert_array_equal(conv.conv_input_grad(out, w, shape[2:], *attributes), back)
        np.testing.assert_array_equal(conv.conv_weight_grad(out, x, weight[2:], *attributes), weights)
    memory = np.empty(x.size + 1, np.float32)
    shifted = memory[1:].reshape(shape)  # aligned to four bytes only
    shifted[...] = x
    np.testing.assert_array_equal(conv.conv_forward(shifted, w, None, *attributes), out)
    np.testing.assert_array_equal(conv.conv_weight_grad(out, shifted, weight[2:], *attributes), weights)


def test_settings_are_checked_again_where_only_their_type_differs():
    """What was checked is remembered by shape, dtype and setting: 1 and True, or 1 and 1.0, are not one setting."""
    x, w = tg.ones(1, 2, 5, 5), tg.ones(2, 2, 3, 3)
    for _ in range(2):
        assert tg.conv2d(x, w, stride=[1, 1], groups=1).shape == (1, 2, 3, 3)
        with pytest.raises(TypeError, match="groups must be an integer, got True"):
            tg.conv2d(x, w, groups=True)
        with pytest.raises(TypeError, match="conv2d: expected one dtype, got input float32, weight float64"):
            tg.conv2d(x, w.double())
        with pytest.raises(ValueError, match="expects 2 x 2 groups input channels"):
            tg.conv2d(x, w, groups=2)
