"""The examples of the gallery: each a few lines as a student writes them, ending in `return locals()`, and what to see in them.

What is shown of an example is its own source, without that last line. `result` is the variable that is drawn and explained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tinygrad_cv as tg
from tinygrad_cv import data, models, nn, optim
from tinygrad_cv.nn import functional as F


@dataclass(frozen=True)
class Example:
    """One entry. make: the lines; gives its variables. result: the one that is drawn. see: what to look for. drawing: options of draw()."""

    name: str
    title: str
    make: Callable[[], dict[str, Any]]
    result: str
    see: str
    drawing: dict[str, Any] = field(default_factory=dict)


_NUMBERS = {"values": True, "grads": True, "direction": "LR"}


def _sum_times() -> dict[str, Any]:
    x = tg.tensor(-2.0, requires_grad=True)
    y = tg.tensor(5.0, requires_grad=True)
    z = tg.tensor(-4.0, requires_grad=True)
    q = x + y
    f = q * z
    return locals()


def _logistic_neuron() -> dict[str, Any]:
    w0, w1, w2 = (tg.tensor(v, requires_grad=True) for v in (2.0, -3.0, -3.0))
    x0, x1 = (tg.tensor(v, requires_grad=True) for v in (-1.0, -2.0))
    s = w0 * x0 + w1 * x1 + w2
    f = 1 / (1 + tg.exp(-s))
    return locals()


def _hinge() -> dict[str, Any]:
    x = tg.tensor([[1.0, -2.0, 0.5]])
    w = tg.tensor([[0.5, -1.0], [-1.5, 0.25], [2.0, 1.0]], requires_grad=True)
    b = tg.tensor([0.5, -0.25], requires_grad=True)
    f = tg.maximum(tg.tensor(0.0), x @ w + b)
    return locals()


def _two_layers() -> dict[str, Any]:
    x = tg.tensor([[0.5, -1.0], [1.5, 2.0]])
    target = tg.tensor([0, 1])
    w1 = tg.tensor([[1.0, -0.5, 0.25], [-0.75, 0.5, 1.0]], requires_grad=True)
    b1 = tg.zeros(3, requires_grad=True)
    w2 = tg.tensor([[0.5, -1.0], [1.0, 0.75], [-0.25, 0.5]], requires_grad=True)
    b2 = tg.zeros(2, requires_grad=True)
    hidden = (x @ w1 + b1).relu()
    loss = F.cross_entropy(hidden @ w2 + b2, target)
    return locals()


def _lenet5() -> dict[str, Any]:
    model = models.lenet5()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    digits = data.Subset(data.MNIST(), range(3200))
    for images, labels in data.DataLoader(digits, 64):  # fifty steps: enough to read most digits
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    image, label = data.MNIST(train=False)[8]
    image, target = tg.as_tensor(image).unsqueeze(0), tg.tensor([label])
    scores = model(image)
    loss = F.cross_entropy(scores, target)
    return locals()


def _residual_block() -> dict[str, Any]:
    block = models.BasicBlock(4, 4)
    image = tg.randn(1, 4, 6, 6, requires_grad=True)
    out = block(image)
    loss = out.square().mean()
    return locals()


def _batch_norm() -> dict[str, Any]:
    norm = nn.BatchNorm2d(2)
    images = 3 * tg.randn(4, 2, 3, 3) + 5
    images.requires_grad_()
    out = norm(images)
    loss = (out * tg.randn(4, 2, 3, 3)).sum()
    return locals()


def _shared_weights() -> dict[str, Any]:
    w = tg.tensor(0.5, requires_grad=True)
    a, b = tg.tensor(2.0), tg.tensor(-3.0)
    f = (w * a) * (w * b)
    return locals()


def _unrolled_rnn() -> dict[str, Any]:
    w_x, w_h, b = (tg.tensor(v, requires_grad=True) for v in (0.5, 0.8, -0.1))
    x1, x2, x3 = (tg.tensor(v) for v in (1.0, -0.5, 0.25))
    h1 = tg.tanh(w_x * x1 + b)
    h2 = tg.tanh(w_x * x2 + w_h * h1 + b)
    h3 = tg.tanh(w_x * x3 + w_h * h2 + b)
    loss = (h3 - 0.5) ** 2
    return locals()


def _dead_relu() -> dict[str, Any]:
    x = tg.tensor([0.5, 1.0, 2.0])
    w = tg.tensor(0.75, requires_grad=True)
    b = tg.tensor(-10.0, requires_grad=True)
    h = (w * x + b).relu()
    loss = ((h - 1) ** 2).mean()
    return locals()


def _saturated_sigmoid() -> dict[str, Any]:
    x = tg.tensor(6.0)
    w1, w2, w3 = (tg.tensor(v, requires_grad=True) for v in (1.5, 8.0, -7.0))
    h1 = tg.sigmoid(w1 * x)
    h2 = tg.sigmoid(w2 * h1)
    h3 = tg.sigmoid(w3 * h2)
    loss = (h3 - 1) ** 2
    return locals()


def _exploding_gradients() -> dict[str, Any]:
    w = tg.tensor(3.0, requires_grad=True)
    h0 = tg.tensor(0.1, requires_grad=True)
    h = h0
    for _ in range(6):
        h = w * h
    return locals()


EXAMPLES = (
    Example(
        "sum-times", "(x + y) * z", _sum_times, "f",
        "Forward, q = −2 + 5 = 3 and f = 3 · (−4) = −12. Backward, the product *switches*: each input gets the other's value, so "
        "∂f/∂q = z = −4 and ∂f/∂z = q = 3. The sum *distributes*: x and y both get q's −4 unchanged.",
        _NUMBERS,
    ),
    Example(
        "logistic-neuron", "A logistic neuron", _logistic_neuron, "f",
        "f = σ(w₀x₀ + w₁x₁ + w₂), with σ written out. Every gradient is the one that arrives, times a local derivative. The last four "
        "steps together make σ(s)(1 − σ(s)) = 0.73 · 0.27 ≈ 0.2: that is what reaches s and, unchanged, w₂.",
        _NUMBERS,
    ),
    Example(
        "maximum", "f = max(0, x w + b)", _hinge, "f",
        "The maximum *routes*: where x w + b is above 0 the whole gradient passes, where it is below nothing does. So one column of w "
        "learns from this example and the other does not: its gradient is a column of zeros.",
        _NUMBERS,
    ),
    Example(
        "two-layers", "A two-layer network", _two_layers, "loss",
        "A hidden layer with ReLU gives scores; softmax and cross-entropy make one number of them. There the gradient of each score is "
        "p − y; two products of matrices carry it back to the weights, and a bias gets its sum over the examples.",
        {"values": True, "grads": True},
    ),
    Example(
        "lenet5", "LeNet-5 reads a digit", _lenet5, "loss",
        "61,706 parameters after fifty steps of training, and a digit that they do not read well yet. Open a layer to see its filter "
        "slide over the image, pooling keep the largest and, backward, the gradient return to just those places.",
        {"depth": 2},
    ),
    Example(
        "residual-block", "A residual block", _residual_block, "loss",
        "The image goes two ways, through two convolutions and around them. Where the ways meet, the sum hands the same gradient to "
        "both; at the image the two gradients *add*. Whatever the convolutions do to theirs, the other one arrives whole.",
    ),
    Example(
        "batch-norm", "Batch normalisation", _batch_norm, "loss",
        "Each channel comes in with a mean near 5 and a deviation near 3 and leaves with 0 and 1. All elements of a channel share its "
        "mean and deviation, so each one's gradient depends on all the others', and those of a channel add up to 0.",
        _NUMBERS,
    ),
    Example(
        "shared-weights", "One weight, used twice", _shared_weights, "f",
        "w is used in two places, and each sends a gradient: 2 · (−1.5) = −3 by one way, −3 · 1 = −3 by the other. They *add*: "
        "∂f/∂w = −6, as it must be for f = −6 w². A convolution does the same: one filter, used at every position.",
        _NUMBERS,
    ),
    Example(
        "unrolled-rnn", "A recurrent network, three steps unrolled", _unrolled_rnn, "loss",
        "The same parameters act at each step, so w_x and b collect three gradients, w_h two. Those of the first step have come back "
        "through two products with w_h and two more slopes of tanh, and are the smallest: the vanishing gradient at its start.",
        {"values": True, "grads": True},
    ),
    Example(
        "dead-relu", "What goes wrong: a dead ReLU", _dead_relu, "loss",
        "The bias is so low that w x + b is negative for every example. ReLU gives 0 for all of them and passes no gradient: w and b "
        "stay as they are, and the unit stays dead however long it is trained. Too high a learning rate makes such units.",
        _NUMBERS,
    ),
    Example(
        "saturated-sigmoid", "What goes wrong: saturated sigmoids", _saturated_sigmoid, "loss",
        "Each sigmoid works where its curve is nearly flat, and multiplies the gradient by a slope below a thousandth. The loss is "
        "almost as large as it can be, yet w1 gets next to nothing. ReLU, normalisation and careful first weights avoid this.",
        _NUMBERS,
    ),
    Example(
        "exploding-gradients", "What goes wrong: exploding gradients", _exploding_gradients, "h",
        "Six products with the same w = 3: the gradient triples at each on its way back, and reaches h0 as 3⁶ = 729. Six gradients of "
        "0.1 · 3⁵ = 24.3 add up at w. A hundred steps would overflow; clipping, or w near 1, keeps them in bounds.",
        _NUMBERS,
    ),
)  # fmt: skip

__all__ = ["EXAMPLES", "Example"]
