"""Losses against PyTorch in float64, their errors, and what a training loop relies on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from functional_comparison import both, compare

import tinygrad_cv as tg

REDUCTIONS = ("mean", "sum", "none")
CLASS_SHAPES = [((5, 3), (5,)), ((3,), ()), ((2, 3, 4), (2, 4)), ((2, 3, 2, 2), (2, 2, 2))]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def labels_for(rng, shape, ignored):
    labels = np.asarray(rng.integers(0, 3, shape))
    if ignored == -1 and labels.size > 1:
        labels.flat[0] = -1
    if ignored == 1:
        labels.flat[0] = 2
    return labels


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [-100, 1, -1])
def test_class_losses_agree_with_pytorch(rng, reduction, weighted, ignored):
    for shape, label_shape in CLASS_SHAPES:
        scores, labels = rng.standard_normal(shape), labels_for(rng, label_shape, ignored)
        options = {"reduction": reduction, "ignore_index": ignored}
        if weighted:
            options["weight"] = rng.random(3) + 0.5
        compare(*both("nll_loss", labels, **options), scores)
        for smoothing in (0.0, 0.2):
            compare(*both("cross_entropy", labels, **options, label_smoothing=smoothing), scores)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_with_probabilities_agrees_with_pytorch(rng, reduction, weighted):
    for shape in [(5, 3), (3,), (2, 3, 4)]:
        options = {"weight": rng.random(3) + 0.5} if weighted else {}
        for smoothing in (0.0, 0.2):
            functions = both("cross_entropy", reduction=reduction, label_smoothing=smoothing, **options)
            compare(*functions, rng.standard_normal(shape), rng.random(shape))


def test_cross_entropy_of_large_scores_is_finite_and_exact():
    scores = tg.tensor([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)
    loss = tg.cross_entropy(scores, tg.tensor([0, 0]))
    loss.backward()
    assert loss.item() == 5000.0
    assert scores.grad.tolist() == [[0.0, 0.0], [-0.5, 0.5]]


def test_cross_entropy_of_equal_scores_is_the_logarithm_of_the_number_of_classes():
    loss = tg.cross_entropy(tg.zeros(4, 10), tg.tensor([0, 3, 5, 9]))
    assert loss.item() == pytest.approx(math.log(10), rel=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_all_labels_ignored_gives_nan_and_no_gradient(name):
    scores = tg.randn(3, 2, requires_grad=True)
    loss = getattr(tg, name)(scores, tg.tensor([-100] * 3))
    assert math.isnan(loss.item())
    loss.backward()
    assert scores.grad.tolist() == [[0.0, 0.0]] * 3


def test_an_ignored_row_may_hold_anything():
    scores = tg.tensor([[1.0, 2.0], [math.nan, math.inf]], requires_grad=True)
    loss = tg.cross_entropy(scores, tg.tensor([1, -100]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)))
    assert scores.grad[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "multi_margin_loss"])
def test_a_label_out_of_range_is_named_with_its_row_before_any_work(name):
    for labels, wrong in ([0, 1, 3, 0], "label 3 in row 2"), ([0, -1, 2, 0], "label -1 in row 1"):
        scores = tg.randn(4, 3, requires_grad=True)
        with pytest.raises(IndexError, match=f"^{name}: {wrong}.*0..2"):
            getattr(tg, name)(scores, tg.tensor(labels))
    with (
        pytest.raises(IndexError, match=r"label 5 in position \(0, 1\)")
        if name != "multi_margin_loss"
        else pytest.raises(ValueError)
    ):
        getattr(tg, name)(tg.randn(1, 3, 2), tg.tensor([[0, 5]]))


def test_integer_labels_of_any_width_are_accepted():
    scores = tg.randn(4, 3)
    expected = tg.cross_entropy(scores, tg.tensor([0, 1, 2, 0])).item()
    for dtype in ("uint8", "int32"):
        assert tg.cross_entropy(scores, tg.tensor([0, 1, 2, 0], dtype=dtype)).item() == expected


def test_class_losses_refuse_what_does_not_fit():
    scores = tg.randn(4, 3)
    with pytest.raises(ValueError, match=r"cross_entropy: .*target must have shape \(4,\); got \(3,\)"):
        tg.cross_entropy(scores, tg.tensor([0, 1, 2]))
    with pytest.raises(TypeError, match="class indices must be integers"):
        tg.cross_entropy(scores, tg.ones(4))
    with pytest.raises(ValueError, match="reduction must be"):
        tg.cross_entropy(scores, tg.tensor([0, 1, 2, 0]), reduction="average")
    with pytest.raises(TypeError, match=r"input.*floating"):
        tg.nll_loss(tg.tensor([[1, 2]]), tg.tensor([0]))
    with pytest.raises(ValueError, match="weight must have shape"):
        tg.nll_loss(scores, tg.tensor([0, 1, 2, 0]), tg.ones(4))
    with pytest.raises(TypeError, match="weight is float64"):
        tg.nll_loss(scores, tg.tensor([0, 1, 2, 0]), tg.ones(3, dtype="float64"))
    with pytest.raises(ValueError, match="label_smoothing"):
        tg.cross_entropy(scores, tg.tensor([0, 1, 2, 0]), label_smoothing=1.5)


def test_an_empty_batch_sums_to_zero():
    scores, labels = tg.zeros(0, 3, requires_grad=True), tg.zeros(0, dtype="int64")
    assert tg.cross_entropy(scores, labels, reduction="sum").item() == 0
    assert tg.cross_entropy(scores, labels, reduction="none").shape == (0,)
    assert math.isnan(tg.cross_entropy(scores, labels).item())


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")  # PyTorch's, on the meaning of kl_div's default
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4)])
def test_losses_on_values_agree_with_pytorch(rng, reduction, shape):
    x, y = rng.standard_normal(shape), rng.standard_normal(shape)
    p, q = (rng.random(shape) * 0.98 + 0.01 for _ in range(2))
    signs = np.where(rng.random(shape) < 0.5, 1.0, -1.0)
    for name in ("mse_loss", "l1_loss"):
        compare(*both(name, reduction=reduction), x, y)
        compare(*both(name, reduction=reduction, weight=rng.random(shape) + 0.5), x, y)
    for delta in (1.0, 0.3):
        compare(*both("huber_loss", reduction=reduction, delta=delta), x, y)
        compare(*both("huber_loss", reduction=reduction, delta=delta, weight=rng.random(shape) + 0.5), x, y)
        compare(*both("smooth_l1_loss", reduction=reduction, beta=delta), x, y)
    compare(*both("smooth_l1_loss", reduction=reduction, beta=0.0), x, y)
    compare(*both("binary_cross_entropy", reduction=reduction), p, q)
    compare(*both("binary_cross_entropy", rng.random(shape), reduction=reduction), p, q)
    compare(*both("binary_cross_entropy_with_logits", reduction=reduction), 10 * x, q)
    weights = {"weight": rng.random(shape), "pos_weight": rng.random(shape) + 0.5}
    compare(*both("binary_cross_entropy_with_logits", reduction=reduction, **weights), x, q)
    compare(*both("kl_div", reduction=reduction), np.log(p), q)
    compare(*both("kl_div", reduction=reduction, log_target=True), np.log(p), np.log(q))
    for full in (False, True):
        compare(*both("poisson_nll_loss", True, full, reduction=reduction), x, 4 * p)
        compare(*both("poisson_nll_loss", False, full, reduction=reduction), p, 4 * q)
    compare(*both("soft_margin_loss", reduction=reduction), x, signs, differentiable=[0])
    for margin in (1.0, 0.5):
        compare(*both("hinge_embedding_loss", margin, reduction=reduction), x, signs, differentiable=[0])
        compare(*both("margin_ranking_loss", signs, margin, reduction=reduction), x, y)


def test_binary_cross_entropy_at_certainty_is_cut_off_at_100():
    for target, expected in ((1.0, 100.0), (0.0, 0.0)):
        assert tg.binary_cross_entropy(tg.tensor([0.0]), tg.tensor([target])).item() == expected
        assert tg.binary_cross_entropy(tg.tensor([1.0]), tg.tensor([1 - target])).item() == expected
    functions = both("binary_cross_entropy", reduction="sum")
    compare(*functions, np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0]), second=False, differentiable=[0])


def test_binary_cross_entropy_with_logits_of_huge_scores_is_finite():
    scores = tg.tensor([1e4, -1e4], requires_grad=True)
    loss = tg.binary_cross_entropy_with_logits(scores, tg.tensor([0.0, 1.0]), reduction="none")
    assert loss.tolist() == [1e4, 1e4]
    loss.sum().backward()
    assert scores.grad.tolist() == [1.0, -1.0]


def test_kl_div_counts_a_zero_target_as_nothing(rng):
    p, q = np.log(rng.random((4, 3)) + 0.1), rng.random((4, 3))
    compare(*both("kl_div", reduction="batchmean"), p, q)
    q[0, 0] = 0
    functions = both("kl_div", reduction="sum")
    compare(*functions, p, q, differentiable=[0])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gaussian_nll_agrees_with_pytorch(rng, reduction):
    x, y = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    for variance in (rng.random((3, 4)) + 0.5, rng.random((3, 1)) + 0.5, rng.random(3) + 0.5):
        for full in (False, True):
            compare(*both("gaussian_nll_loss", full=full, reduction=reduction), x, y, variance)
    compare(*both("gaussian_nll_loss", 2.0, reduction=reduction), x, y)
    compare(*both("gaussian_nll_loss", reduction=reduction), x, y, np.full((3, 4), 1e-9), second=False)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(5, 4), (4,)])
def test_margin_losses_over_classes_agree_with_pytorch(rng, reduction, shape):
    scores, labels = rng.standard_normal(shape), np.asarray(rng.integers(0, 4, shape[:-1]))
    for p in (1, 2):
        for margin in (1.0, 0.4):
            for weight in ({}, {"weight": rng.random(4) + 0.5}):
                functions = both("multi_margin_loss", labels, p, margin, reduction=reduction, **weight)
                compare(*functions, scores, second=False)
    several = np.full(shape, -1)
    for row in several.reshape(-1, 4):
        count = rng.integers(0, 5)
        row[:count] = rng.permutation(4)[:count]
    compare(*both("multilabel_margin_loss", several, reduction=reduction), scores, second=False)
    for weight in ({}, {"weight": rng.random(4)}):
        functions = both("multilabel_soft_margin_loss", reduction=reduction, **weight)
        compare(*functions, scores, rng.integers(0, 2, shape).astype(float), differentiable=[0])


def test_multi_margin_loss_is_the_svm_hinge_of_the_textbook():
    # Scores 3.2, 5.1, -1.7 with right class 0: max(0, 5.1 - 3.2 + 1) + max(0, -1.7 - 3.2 + 1) = 2.9 (CS231n, linear classification).
    loss = tg.multi_margin_loss(tg.tensor([[3.2, 5.1, -1.7]]), tg.tensor([0]), reduction="sum")
    assert loss.item() * 3 == pytest.approx(2.9, rel=1e-6)


def test_multi_margin_loss_has_a_second_derivative_for_p_2(rng):
    scores = tg.tensor(rng.standard_normal((3, 4)), requires_grad=True)
    labels = tg.tensor([0, 3, 1])
    assert tg.autograd.gradgradcheck(lambda s: tg.multi_margin_loss(s, labels, p=2), (scores,))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_on_vectors_agree_with_pytorch(rng, reduction):
    for shape in [(5, 4), (4,)]:
        a, b, c = (rng.standard_normal(shape) for _ in range(3))
        signs = np.where(rng.random(shape[:-1]) < 0.5, 1, -1)
        for margin in (0.0, 0.3):
            compare(*both("cosine_embedding_loss", signs, margin, reduction=reduction), a, b)
        for p in (2.0, 1.0, 3.0):
            for swap in (False, True):
                compare(*both("triplet_margin_loss", 1.5, p, 1e-6, swap, reduction=reduction), a, b, c, tolerance=1e-8)
        compare(*both("triplet_margin_with_distance_loss", margin=0.7, swap=True, reduction=reduction), a, b, c, tolerance=1e-8)


def test_triplet_loss_with_a_distance_of_the_users(rng):
    a, b, c = (rng.standard_normal((5, 4)) for _ in range(3))
    functions = both("triplet_margin_with_distance_loss", distance_function=lambda x, y: (x - y).abs().sum(-1))
    compare(*functions, a, b, c)


def test_shapes_that_differ_are_broadcast_with_a_warning():
    with pytest.warns(UserWarning, match=r"mse_loss: target has shape \(3,\) but input has shape \(3, 1\)"):
        loss = tg.mse_loss(tg.zeros(3, 1), tg.ones(3), reduction="none")
    assert loss.shape == (3, 3)
    with pytest.raises(ValueError, match="do not fit together"):
        tg.l1_loss(tg.zeros(3), tg.zeros(2))


def test_losses_on_values_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\]"):
        tg.binary_cross_entropy(tg.tensor([1.5]), tg.tensor([1.0]))
    with pytest.raises(ValueError, match="target must have the shape"):
        tg.binary_cross_entropy_with_logits(tg.zeros(3), tg.zeros(3, 1))
    with pytest.raises(ValueError, match="delta must be above 0"):
        tg.huber_loss(tg.zeros(2), tg.zeros(2), delta=0.0)
    with pytest.raises(ValueError, match="negative entries"):
        tg.gaussian_nll_loss(tg.zeros(2), tg.zeros(2), tg.tensor([1.0, -1.0]))
    with pytest.raises(TypeError, match=r"target.*floating"):
        tg.mse_loss(tg.zeros(2), tg.tensor([1, 2]))
    with pytest.raises(ValueError, match="p must be 1 or 2"):
        tg.multi_margin_loss(tg.zeros(2, 3), tg.tensor([0, 1]), p=3)
    with pytest.raises(ValueError, match="margin must be above 0"):
        tg.triplet_margin_loss(tg.zeros(2, 3), tg.zeros(2, 3), tg.zeros(2, 3), margin=0.0)
    with pytest.raises(IndexError, match="label 4"):
        tg.multilabel_margin_loss(tg.zeros(2, 3), tg.tensor([[0, 4, -1], [0, 1, 2]]))


def test_float32_losses_stay_float32():
    x, y = tg.rand(4, 3), tg.rand(4, 3)
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "kl_div", "poisson_nll_loss"):
        assert getattr(tg, name)(x, y).dtype == tg.float32, name
    assert tg.cross_entropy(x, tg.tensor([0, 1, 2, 0])).dtype == tg.float32
    assert tg.gaussian_nll_loss(x, y, y + 0.1).dtype == tg.float32


def test_a_gradient_that_does_not_exist_is_refused_rather_than_lost():
    scores, labels = tg.randn(3, 4, requires_grad=True), tg.tensor([0, 3, 1])
    weight = tg.ones(4, requires_grad=True)
    for loss in (tg.cross_entropy, tg.nll_loss):
        with pytest.raises(RuntimeError, match="no gradient is defined for `weight`"):
            loss(scores, labels, weight=weight)
        assert loss(scores, labels, weight=weight.detach()).requires_grad
        assert not loss(scores.detach(), labels).requires_grad
