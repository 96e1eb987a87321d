"""Resizing, grids and pixel rearrangements against PyTorch in float64: values, first and second derivatives, errors."""

from __future__ import annotations

import numpy as np
import pytest
from functional_comparison import both, compare

import tinygrad_cv as tg

SMOOTH = [("linear", (2, 3, 5)), ("bilinear", (2, 3, 5, 4)), ("bicubic", (2, 2, 5, 4)), ("trilinear", (1, 2, 3, 4, 2))]
FLAT = [(m, s) for m in ("nearest", "nearest-exact", "area") for s in ((2, 3, 5), (2, 2, 5, 4), (1, 2, 3, 4, 2))]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("mode, shape", SMOOTH + FLAT)
def test_interpolate_to_a_size_agrees_with_pytorch(rng, mode, shape):
    x = rng.standard_normal(shape)
    for align in (True, False, None) if mode in dict(SMOOTH) else (None,):
        for size in (1, 2, 7, shape[2], 2 * shape[2]):
            compare(*both("interpolate", size, mode=mode, align_corners=align), x)
        compare(*both("interpolate", tuple(range(3, 1 + len(shape))), mode=mode, align_corners=align), x)


@pytest.mark.parametrize("mode, shape", SMOOTH + FLAT)
def test_interpolate_by_a_factor_agrees_with_pytorch(rng, mode, shape):
    x = rng.standard_normal(shape)
    for align in (True, False) if mode in dict(SMOOTH) else (None,):
        for factor in (2, 0.5, 1.7, 1.0):
            for recompute in (None, True, False):
                options = {"scale_factor": factor, "align_corners": align, "recompute_scale_factor": recompute}
                compare(*both("interpolate", mode=mode, **options), x)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area", "bilinear", "bicubic"])
def test_interpolate_of_awkward_sizes_picks_pytorchs_pixels(rng, mode):
    for length, size in [(7, 15), (15, 7), (224, 100), (100, 224), (13, 39), (3, 50)]:
        compare(*both("interpolate", (size, 3), mode=mode), rng.standard_normal((1, 1, length, 3)), second=False)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align", [None, True])
def test_antialiased_interpolate_agrees_with_pytorch(rng, mode, align):
    options = {"mode": mode, "align_corners": align, "antialias": True}
    for shape in [(2, 2, 5, 4), (1, 1, 13, 8)]:
        x = rng.standard_normal(shape)
        for size in [(2, 3), (7, 9), (5, 3), (1, 2), shape[2:]]:
            compare(*both("interpolate", size, **options), x)
        for factor in (0.5, 1.4, (1.0, 0.77), 2):
            for recompute in (None, True):
                compare(*both("interpolate", scale_factor=factor, recompute_scale_factor=recompute, **options), x)


def test_antialiasing_weighs_every_pixel_of_a_shrunk_image():
    x = tg.arange(8.0).reshape(1, 1, 1, 8)
    out = tg.interpolate(x, size=(1, 2), mode="bilinear", antialias=True)
    hat = np.array([0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125])[2:]  # 8 pixels wide about pixel edge 2; 6 inside
    np.testing.assert_allclose(out.reshape(-1).numpy(), [hat @ np.arange(6) / hat.sum(), 7 - hat @ np.arange(6) / hat.sum()])
    keeps = tg.interpolate(x, size=(1, 8), mode="bicubic", antialias=True)
    np.testing.assert_array_equal(keeps.numpy(), x.numpy())


def test_bilinear_doubling_is_the_textbook_weights():
    out = tg.interpolate(tg.tensor([[[0.0, 4.0]]]), scale_factor=2, mode="linear")
    assert out.tolist() == [[[0.0, 1.0, 3.0, 4.0]]]
    out = tg.interpolate(tg.tensor([[[0.0, 3.0]]]), size=4, mode="linear", align_corners=True)
    np.testing.assert_allclose(out.numpy(), [[[0, 1, 2, 3]]], rtol=1e-6)


def test_interpolate_refuses_what_does_not_fit():
    x = tg.zeros(1, 1, 4, 4)
    for options, message in [
        ({}, "either size or scale_factor"),
        ({"size": 2, "scale_factor": 2}, "either size or scale_factor"),
        ({"size": 2, "mode": "linear"}, "needs an input of 3 axes"),
        ({"size": 2, "mode": "cubic"}, "mode must be one of"),
        ({"size": 2, "align_corners": True}, "align_corners has a meaning only"),
        ({"size": (2, 2, 2)}, "one number or 2"),
        ({"size": 0}, "at least 1"),
        ({"scale_factor": 0.1}, "at least 1"),
        ({"size": 2, "mode": "area", "antialias": True}, "antialias=True needs mode 'bilinear' or 'bicubic'"),
        ({"size": 2, "recompute_scale_factor": True}, "recompute_scale_factor"),
    ]:
        with pytest.raises(ValueError, match=f"^interpolate: .*{message}"):
            tg.interpolate(x, **options)
    with pytest.raises(TypeError, match="size must hold integers"):
        tg.interpolate(x, size=2.5)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [True, False])
def test_grid_sample_of_images_agrees_with_pytorch(rng, mode, padding_mode, align):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align}
    for shape in [(2, 3, 4, 5), (1, 1, 1, 1), (1, 2, 1, 3)]:
        grid = rng.uniform(-2.5, 2.5, (shape[0], 3, 4, 2))
        # PyTorch has second derivatives for the bilinear mode alone (and none through its bicubic).
        compare(*both("grid_sample", **options), rng.standard_normal(shape), grid, second=False)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [True, False])
def test_grid_sample_of_volumes_agrees_with_pytorch(rng, mode, padding_mode, align):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align}
    grid = rng.uniform(-2.5, 2.5, (2, 2, 3, 2, 3))
    compare(*both("grid_sample", **options), rng.standard_normal((2, 2, 3, 4, 2)), grid, second=False)


def test_grid_sample_on_the_identity_grid_returns_the_image(rng):
    image = tg.tensor(rng.standard_normal((2, 3, 4, 5)))
    theta = tg.tensor(np.tile(np.eye(2, 3), (2, 1, 1)))
    for align in (True, False):
        grid = tg.affine_grid(theta, (2, 3, 4, 5), align_corners=align)
        for mode in ("bilinear", "nearest", "bicubic"):
            out = tg.grid_sample(image, grid, mode=mode, align_corners=align)
            np.testing.assert_allclose(out.numpy(), image.numpy(), rtol=1e-12, atol=1e-12)


def test_grid_sample_has_second_derivatives_for_image_and_grid(rng):
    image = tg.tensor(rng.standard_normal((1, 2, 3, 3)), requires_grad=True)
    pixels = rng.integers(-1, 3, (1, 2, 2, 2)) + rng.uniform(0.2, 0.4, (1, 2, 2, 2))
    grid = tg.tensor(pixels - 1.0, requires_grad=True)  # align_corners on 3 pixels: position = grid + 1
    for mode in ("bilinear", "bicubic"):
        for padding_mode in ("zeros", "border", "reflection"):
            assert tg.autograd.gradgradcheck(lambda i, g: tg.grid_sample(i, g, mode, padding_mode, True), (image, grid))  # noqa: B023


def test_grid_sample_far_outside_and_of_nan():
    image = tg.ones(1, 1, 2, 2)
    grid = tg.tensor([[[[1e30, 0.0], [float("nan"), 0.0], [-1e30, float("inf")]]]])
    assert tg.grid_sample(image, grid, align_corners=False).tolist() == [[[[0.0, 0.0, 0.0]]]]
    assert tg.grid_sample(image, grid, "nearest", align_corners=False).tolist() == [[[[0.0, 0.0, 0.0]]]]


def test_a_spatial_transformer_learns_a_shift():
    squares = (np.arange(9) - 4.0) ** 2
    image = tg.tensor(np.exp(-(squares[:, None] + squares) / 8)[None, None])

    def shifted(shift):
        theta = tg.cat([tg.eye(2, dtype="float64"), shift.unsqueeze(-1)], 1).unsqueeze(0)
        return tg.grid_sample(image, tg.affine_grid(theta, image.shape), align_corners=False)

    target = shifted(tg.tensor([0.2, -0.1]).double())
    shift = tg.zeros(2, dtype="float64", requires_grad=True)
    for _ in range(60):
        (gradient,) = tg.autograd.grad(tg.mse_loss(shifted(shift), target), shift)
        shift = (shift - gradient).detach().requires_grad_()
    np.testing.assert_allclose(shift.detach().numpy(), [0.2, -0.1], atol=1e-3)


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid:UserWarning")  # PyTorch's, for images of one pixel
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("size", [(2, 1, 3, 4), (1, 2, 1, 1), (2, 3, 2, 3, 4), (1, 1, 1, 2, 1)])
def test_affine_grid_agrees_with_pytorch(rng, align, size):
    axes = len(size) - 2
    compare(*both("affine_grid", size, align_corners=align), rng.standard_normal((size[0], axes, axes + 1)))


def test_grids_refuse_what_does_not_fit():
    image, grid = tg.zeros(1, 1, 3, 3), tg.zeros(1, 2, 2, 2)
    with pytest.raises(ValueError, match=r"grid_sample: .*\(1, 1, 3, 3\) and \(1, 2, 2, 3\)"):
        tg.grid_sample(image, tg.zeros(1, 2, 2, 3))
    with pytest.raises(ValueError, match="mode must be one of"):
        tg.grid_sample(image, grid, "linear")
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        tg.grid_sample(image, grid, "bilinear", "circular")
    with pytest.raises(ValueError, match="'bicubic' needs a 4-D input"):
        tg.grid_sample(tg.zeros(1, 1, 2, 2, 2), tg.zeros(1, 1, 1, 1, 3), "bicubic")
    with pytest.raises(TypeError, match="one dtype"):
        tg.grid_sample(image, grid.double())
    with pytest.raises(ValueError, match="affine_grid: expected theta"):
        tg.affine_grid(tg.zeros(1, 3, 3), (1, 1, 2, 2))


def test_pixel_rearrangements_agree_with_pytorch(rng):
    for lead in ((), (2,), (2, 3)):
        compare(*both("pixel_shuffle", 3), rng.standard_normal((*lead, 18, 2, 3)))
        compare(*both("pixel_unshuffle", 2), rng.standard_normal((*lead, 3, 4, 6)))
    for shape in ((2, 6), (2, 6, 3), (2, 6, 3, 2)):
        x = tg.tensor(rng.standard_normal(shape))
        assert np.array_equal(tg.channel_shuffle(tg.channel_shuffle(x, 2), 3).numpy(), x.numpy())
    compare(*both("channel_shuffle", 3), rng.standard_normal((2, 6, 3, 2)), second=False)


def test_pixel_unshuffle_undoes_pixel_shuffle(rng):
    x = tg.tensor(rng.standard_normal((2, 12, 3, 4)))
    assert np.array_equal(tg.pixel_unshuffle(tg.pixel_shuffle(x, 2), 2).numpy(), x.numpy())


def test_pixel_rearrangements_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"pixel_shuffle: the 6 channels .* 4"):
        tg.pixel_shuffle(tg.zeros(1, 6, 2, 2), 2)
    with pytest.raises(ValueError, match="divisible by downscale_factor=2"):
        tg.pixel_unshuffle(tg.zeros(1, 6, 3, 2), 2)
    with pytest.raises(ValueError, match="groups=4 must divide"):
        tg.channel_shuffle(tg.zeros(1, 6, 3, 2), 4)
    with pytest.raises(ValueError, match="at least 1"):
        tg.pixel_shuffle(tg.zeros(1, 4, 2, 2), 0)


def test_float32_images_stay_float32():
    x = tg.rand(1, 4, 4, 4)
    for mode in ("nearest", "bilinear", "bicubic", "area"):
        assert tg.interpolate(x, 6, mode=mode).dtype == tg.float32
    assert tg.grid_sample(x, tg.affine_grid(tg.rand(1, 2, 3), x.shape)).dtype == tg.float32
