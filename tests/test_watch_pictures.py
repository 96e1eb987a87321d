"""Pictures of a network: filters, mistakes, the loss around it, its regions; and that looking changes nothing."""

import sys

import numpy as np
import pytest
from tinygrad_cv.viz.training.regions import region_grid

import tinygrad_cv as tg
from tinygrad_cv import data, models, nn, viz

F = nn.functional


def _bits(model):
    return {name: t.detach().numpy().tobytes() for name, t in [*model.named_parameters(), *model.named_buffers()]}


# -- first-layer filters -------------------------------------------------------------------------------------------------------


def test_filters_share_one_scale_on_which_grey_is_zero():
    weight = tg.tensor([[[[1.0, -1.0], [0.0, 0.5]]], [[[0.25, 0.0], [0.0, -0.5]]]])
    images, note = viz.filter_images(weight)
    assert images.shape == (2, 2, 2, 1) and images.dtype == np.uint8
    assert images[0, ..., 0].tolist() == [[255, 0], [128, 191]] and images[1, ..., 0].tolist() == [[159, 128], [128, 64]]
    assert note == "the weight: 2 filters of 1 x 2 x 2, grey is 0, white 1, black -1"


def test_filters_of_a_model_are_those_of_its_first_layer():
    images, note = viz.filter_images(models.lenet5())
    assert images.shape == (6, 5, 5, 1) and note.startswith("features.0: 6 filters of 1 x 5 x 5")
    images, _ = viz.filter_images(models.linear_softmax())
    assert images.shape == (10, 28, 28, 1)
    images, _ = viz.filter_images(nn.Conv2d(3, 4, 7))
    assert images.shape == (4, 7, 7, 3)
    images, note = viz.filter_images(nn.Conv2d(2, 4, 3), limit=5)
    assert images.shape == (5, 3, 3, 1) and "the first 5 of 8" in note
    wide, _ = viz.filter_images(nn.Linear(24, 2), image_shape=(1, 4, 6))
    assert wide.shape == (2, 4, 6, 1)


def test_what_is_no_filter_is_named():
    with pytest.raises(ValueError, match="24 features are no square picture of one or three channels; give image_shape"):
        viz.filters(nn.Linear(24, 2))
    with pytest.raises(ValueError, match="Tanh has no Conv2d and no Linear layer"):
        viz.filters(nn.Tanh())
    with pytest.raises(TypeError, match="expected a module or a weight Tensor, got ndarray"):
        viz.filters(np.ones((2, 1, 3, 3)))
    with pytest.raises(ValueError, match=r"a weight of shape \(4,\) is no set of pictures"):
        viz.filters(tg.ones(4))


# -- mistakes --------------------------------------------------------------------------------------------------------------------


class _Fixed(nn.Module):
    """Scores of one batch that are written down."""

    def __init__(self, scores):
        super().__init__()
        self.scores = tg.tensor(scores)

    def forward(self, input):
        return self.scores[: len(input)]


def test_confusion_counts_and_ranks_mistakes_by_their_loss():
    scores = [[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [5.0, 0.0, 1.0], [0.0, 0.0, 4.0], [0.0, 1.0, 0.5]]
    labels = tg.tensor([0, 1, 2, 2, 0])
    model = _Fixed(scores).train()
    images = tg.from_numpy(np.arange(5 * 4, dtype=np.float32).reshape(5, 1, 2, 2))
    found = viz.confusion(model, [(images, labels)], classes=["a", "b", "c"])
    assert found.counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]] and found.accuracy == pytest.approx(3 / 5)
    first, second = found.worst
    assert (first.index, first.label, first.predicted) == (2, 2, 0) and (second.index, second.label, second.predicted) == (
        4,
        0,
        1,
    )
    total = np.exp([5.0, 0.0, 1.0]).sum()
    assert first.loss == pytest.approx(-np.log(np.exp(1.0) / total)) and first.probability == pytest.approx(np.exp(5.0) / total)
    assert first.image.tolist() == [[[0], [85]], [[170], [255]]]
    assert model.training and viz.confusion(model, [(images, labels)], worst=1).worst[0].index == 2


def test_confusion_of_batches_is_that_of_all_at_once():
    tg.manual_seed(0)
    model = models.linear_softmax()
    part = data.Subset(data.MNIST(train=False, normalize=True), range(60))
    whole = viz.confusion(model, data.DataLoader(part, 60))
    parts = viz.confusion(model, data.DataLoader(part, 7))
    assert np.array_equal(whole.counts, parts.counts) and whole.counts.sum() == 60
    assert [m.index for m in whole.worst] == [m.index for m in parts.worst]
    assert whole.counts.sum(axis=1).tolist() == np.bincount(part.dataset.batch(np.arange(60))[1].numpy(), minlength=10).tolist()


def test_confusion_of_wrong_calls_is_named():
    images, labels = tg.ones(2, 1, 2, 2), tg.tensor([0, 3])
    model = _Fixed([[1.0, 0.0], [0.0, 1.0]]).train()
    with pytest.raises(ValueError, match=r"labels lie in 0..3; expected 0..1"):
        viz.confusion(model, [(images, labels)])
    assert model.training
    with pytest.raises(ValueError, match="3 class names for 2 scores"):
        viz.confusion(model, [(images, tg.tensor([0, 1]))], classes="abc")
    with pytest.raises(ValueError, match="there are no examples"):
        viz.confusion(model, [])


# -- the loss around a network -----------------------------------------------------------------------------------------------------


def _quadratic():
    model = nn.Linear(3, 2).double()
    return model, lambda: (model.weight**2).sum() + (model.bias**2).sum()


def test_along_a_filter_normalised_direction_a_quadratic_is_what_its_formula_says():
    """|W + a D|^2 = |W|^2 + 2 a <W, D> + a^2 |W|^2, as every row of D is as long as that of W; biases stay."""
    model, loss = _quadratic()
    weight, bias = model.weight.detach().numpy().copy(), model.bias.detach().numpy().copy()
    found = viz.loss_landscape(model, loss, steps=9, span=2.0)
    a = found.alphas
    assert np.array_equal(a, np.linspace(-2, 2, 9)) and found.centre == pytest.approx((weight**2).sum() + (bias**2).sum())
    curve = np.polynomial.Polynomial.fit(a, found.losses, 2).convert().coef
    assert curve[2] == pytest.approx((weight**2).sum()) and curve[0] == pytest.approx(found.centre)
    assert np.allclose(found.losses, np.polyval(curve[::-1], a))


def test_a_plane_of_two_directions():
    model, loss = _quadratic()
    found = viz.loss_landscape(model, loss, directions=2, steps=5)
    line = viz.loss_landscape(model, loss, directions=1, steps=5)
    assert found.losses.shape == (5, 5) and found.losses[2, 2] == pytest.approx(found.centre)
    assert np.allclose(found.losses[:, 2], line.losses)  # the first direction of one seed is the same
    again = viz.loss_landscape(model, loss, directions=2, steps=5)
    other = viz.loss_landscape(model, loss, directions=2, steps=5, seed=1)
    assert np.array_equal(found.losses, again.losses) and not np.allclose(found.losses, other.losses)


def test_the_way_to_other_weights():
    model, loss = _quadratic()
    other = nn.Linear(3, 2).double()
    found = viz.loss_landscape(model, loss, toward=other.state_dict(), steps=9, span=0.5)
    at = dict(zip(found.alphas.round(9).tolist(), found.losses.tolist(), strict=True))
    there = sum((p.detach().numpy() ** 2).sum() for p in other.parameters())
    half = sum(
        ((p.detach().numpy() + q.detach().numpy()) ** 2).sum() / 4
        for p, q in zip(model.parameters(), other.parameters(), strict=True)
    )
    assert at[1.0] == pytest.approx(there) and at[0.0] == pytest.approx(found.centre)
    assert found.alphas[0] == -0.5 and found.alphas[-1] == 1.5
    middle = viz.loss_landscape(model, loss, toward=other.state_dict(), steps=3, span=0.5)
    assert middle.losses[1] == pytest.approx(half)


def _with_everything():
    """Weights, biases, normalisation with its running statistics and a counter, dropout, a frozen part, a minus zero and a NaN."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(3 * 4, 2))
    with tg.no_grad():
        model(tg.randn(8, 1, 4, 4))
        model[5].weight[0, 0] = -0.0
    model[0].bias.requires_grad_(False)
    model[1].eval()
    return model


@pytest.mark.parametrize("batch_statistics", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_put_back_bit_for_bit(batch_statistics, fails):
    model = _with_everything()
    before, modes, stream = _bits(model), [m.training for m in model.modules()], repr(tg.get_rng_state())
    x, calls, seen = tg.randn(6, 1, 4, 4), [], []
    stream = repr(tg.get_rng_state())

    def loss():
        calls.append(1)
        seen.append([m.training for m in model.modules()])
        if fails and len(calls) == 4:
            raise KeyboardInterrupt
        tg.randn(3)
        return (model(x) ** 2).mean()

    if fails:
        with pytest.raises(KeyboardInterrupt):
            viz.loss_landscape(model, loss, directions=2, steps=3, batch_statistics=batch_statistics)
    else:
        found = viz.loss_landscape(model, loss, directions=2, steps=3, batch_statistics=batch_statistics)
        assert np.isfinite(found.losses).all()
    assert _bits(model) == before and [m.training for m in model.modules()] == modes
    assert repr(tg.get_rng_state()) == stream
    batch_norm = [type(m).__name__ for m in model.modules()].index("BatchNorm2d")
    assert all(flags[batch_norm] is batch_statistics and sum(flags) == batch_statistics for flags in seen)


def test_weights_that_are_no_numbers_come_back_too():
    model = nn.Linear(2, 2)
    with tg.no_grad():
        model.weight[0, 0] = float("nan")
    before = _bits(model)
    with np.errstate(all="ignore"):
        found = viz.loss_landscape(model, lambda: model.weight.sum(), steps=3)
    assert _bits(model) == before and np.isnan(found.losses).all()


def test_a_landscape_asked_for_wrongly_is_named():
    model, loss = _quadratic()
    for options, message in (
        ({"directions": 3}, "directions must be 1 or 2, got 3"), ({"steps": 1}, "steps must be at least 2"),
        ({"span": 0.0}, "span must be positive"), ({"toward": {}}, "weight of the weights to go toward is missing"),
        ({"toward": nn.Linear(2, 2).state_dict()}, r"has shape \(2, 2\); expected shape \(2, 3\)"),
        ({"toward": model.state_dict(), "directions": 2}, "there is one direction"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            viz.loss_landscape(model, loss, **options)


# -- decision regions ------------------------------------------------------------------------------------------------------------


def test_regions_of_a_line_are_its_two_sides():
    """Scores (x, y): class 1 where y > x; with one column: where y - x > 0, by the logistic function."""
    points = tg.tensor([[0.0, 0.0], [1.0, 2.0]])
    x, y, shares = region_grid(lambda p: p, points, resolution=11, margin=0.5)
    assert (x[0], x[-1], y[0], y[-1]) == (-0.5, 1.5, -1.0, 3.0) and shares.shape == (11, 11, 2)
    differences = y[:, None] - x[None, :]
    assert np.allclose(shares[..., 1], 1 / (1 + np.exp(-differences)), atol=1e-6)
    _, _, single = region_grid(lambda p: p[:, 1:] - p[:, :1], points, resolution=11, margin=0.5)
    assert np.allclose(single, shares, atol=1e-6)


def test_a_module_is_asked_in_eval_mode_and_put_back():
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(2, 3)).train()
    points = tg.randn(5, 2)
    first, second = (region_grid(model, points, 20)[2] for _ in range(2))
    assert np.array_equal(first, second) and model.training and model[0].training
    with pytest.raises(ValueError, match=r"expected points \(N, 2\), got shape \(5, 3\)"):
        viz.decision_regions(model, tg.randn(5, 3), tg.zeros(5))
    with pytest.raises(ValueError, match="5 points and 4 labels"):
        viz.decision_regions(model, points, tg.zeros(4))
    with pytest.raises(ValueError, match=r"the model gives shape \(1, 2\)"):
        region_grid(lambda p: p[:1], points)


# -- drawn -----------------------------------------------------------------------------------------------------------------------


def test_every_picture_is_written_and_shows_itself(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    model, loss = _quadratic()
    images, labels = tg.randn(5, 1, 4, 4), tg.tensor([2, 2, 2, 0, 1])
    spots = tg.randn(9, 2)
    charts = {
        "filters": viz.filters(models.lenet5()),
        "confusion": viz.confusion(_Fixed([[1.0, 0.0, 0.0]] * 5), [(images, labels)]).chart(),
        "right": viz.confusion(_Fixed([[1.0, 0.0]] * 2), [(images[:2], tg.tensor([0, 0]))]).chart(),
        "line": viz.loss_landscape(model, loss, steps=3).chart(),
        "plane": viz.loss_landscape(model, loss, directions=2, steps=3).chart(),
        "regions": viz.decision_regions(
            nn.Linear(2, 3), spots, tg.tensor([0, 1, 2] * 3), classes=["x", "y", "z"], resolution=20
        ),
    }
    for name, chart in charts.items():
        chart.save(tmp_path / f"{name}.png", dpi=60)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert charts["line"]._repr_png_().startswith(b"\x89PNG")
    charts["line"].save(tmp_path / "line.svg")
    assert b"<svg" in (tmp_path / "line.svg").read_bytes()
    with pytest.raises(ValueError, match=r"must be one of .png, .svg, .pdf"):
        charts["line"].save(tmp_path / "line.gif")


def test_without_matplotlib_the_numbers_still_come(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    model, loss = _quadratic()
    found = viz.loss_landscape(model, loss, steps=3)
    with pytest.raises(ImportError, match="figures are drawn with matplotlib"):
        found.chart()
