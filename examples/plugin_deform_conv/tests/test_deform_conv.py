"""The kit on the three operators; what deformable convolution is where theory knows it; errors."""

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv.testing import op_test

test_deform_sample = op_test("deform_sample", max_examples=15)
test_deform_scatter = op_test("deform_scatter", max_examples=15)
test_deform_conv2d = op_test("deform_conv2d", max_examples=15)


def test_without_offsets_it_is_a_convolution():
    tg.manual_seed(0)
    x, weight, bias = tg.randn(2, 4, 7, 6), tg.randn(6, 2, 3, 2), tg.randn(6)
    settings = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
    expected = tg.conv2d(x, weight, bias, groups=2, **settings)
    out = x.deform_conv2d(tg.zeros(2, 2 * 6, *expected.shape[2:]), weight, bias, **settings)
    np.testing.assert_allclose(out.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_whole_offsets_shift_the_image():
    """offset (1, -2) everywhere: one row down, two columns to the left, zeros from outside."""
    x = tg.arange(20.0).reshape(1, 1, 4, 5)
    offset = tg.tensor([1.0, -2.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 5)
    out = tg.deform_conv2d(x, offset, tg.ones(1, 1, 1, 1)).numpy()[0, 0]
    expected = np.zeros((4, 5), np.float32)
    expected[:3, 2:] = x.numpy()[0, 0, 1:, :3]
    assert np.array_equal(out, expected)


def test_against_pytorch():
    """Values and gradients against what PyTorch's grid_sample and its autograd make of the definition, tap by tap."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images, channels, groups, size, kernel, pixels = 2, 4, 2, (6, 7), (3, 2), (6, 4)
    stride, padding, dilation = (1, 2), (1, 1), (1, 2)
    arrays = {
        "input": rng.normal(size=(images, channels, *size)), "offset": rng.uniform(-2, 2, (images, 2 * groups * 6, *pixels)),
        "weight": rng.normal(size=(6, 2, *kernel)), "bias": rng.normal(size=6), "mask": rng.uniform(size=(images, groups * 6, *pixels)),
    }  # fmt: skip
    theirs = {k: torch.tensor(v, requires_grad=True) for k, v in arrays.items()}
    x = theirs["input"].reshape(images * groups, channels // groups, *size)
    offset = theirs["offset"].reshape(images * groups, 6, 2, *pixels)
    mask = theirs["mask"].reshape(images * groups, 6, 1, *pixels)
    taps = []
    for k in range(6):
        start = [torch.arange(n) * s - p for n, s, p in zip(pixels, stride, padding, strict=True)]
        y = offset[:, k, 0] + start[0][:, None] + k // kernel[1] * dilation[0]
        z = offset[:, k, 1] + start[1][None, :] + k % kernel[1] * dilation[1]
        grid = torch.stack([z * 2 / (size[1] - 1) - 1, y * 2 / (size[0] - 1) - 1], -1)
        taps.append(torch.nn.functional.grid_sample(x, grid, align_corners=True) * mask[:, k])
    read = torch.stack(taps, 2).reshape(images, 2, 2, 6, *pixels)  # cut into the two groups of the weight
    expected = torch.einsum("nackij,aock->naoij", read, theirs["weight"].reshape(2, 3, 2, 6)).reshape(images, 6, *pixels)
    expected = expected + theirs["bias"][:, None, None]

    ours = {k: tg.tensor(v, requires_grad=True) for k, v in arrays.items()}
    out = tg.deform_conv2d(**ours, stride=stride, padding=padding, dilation=dilation)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    upstream = rng.normal(size=expected.shape)
    out.backward(tg.tensor(upstream))
    expected.backward(torch.tensor(upstream))
    for k in arrays:
        np.testing.assert_allclose(ours[k].grad.numpy(), theirs[k].grad.numpy(), rtol=1e-9, atol=1e-11, err_msg=k)


def test_places_that_are_no_numbers_give_no_number():
    x, offset = tg.ones(1, 1, 2, 2), tg.tensor([float("nan"), 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert np.isnan(tg.deform_conv2d(x, offset, tg.ones(1, 1, 1, 1)).numpy()).all()


def test_errors_come_before_work_and_say_what_would_be_right():
    x, weight = tg.ones(1, 4, 5, 5), tg.ones(2, 4, 3, 3)
    with pytest.raises(
        ValueError, match=r"deform_conv2d: offset must have shape \(1, 2 \* G \* 9, 3, 3\) .* got \(1, 18, 5, 5\)"
    ):
        tg.deform_conv2d(x, tg.zeros(1, 18, 5, 5), weight)
    with pytest.raises(ValueError, match=r"mask must have shape \(1, 9, 3, 3\), got \(1, 18, 3, 3\)"):
        tg.deform_conv2d(x, tg.zeros(1, 18, 3, 3), weight, mask=tg.ones(1, 18, 3, 3))
    with pytest.raises(TypeError, match="offset is float64 and input float32"):
        tg.deform_conv2d(x, tg.zeros(1, 18, 3, 3).double(), weight)
    with pytest.raises(ValueError, match="the kernel"):
        tg.deform_conv2d(tg.ones(1, 4, 2, 2), tg.zeros(1, 18, 3, 3), weight)
