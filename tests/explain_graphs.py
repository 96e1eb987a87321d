"""What the browser tests of step-through pages look at: a dozen and a half small graphs, LeNet-5, and how to get about on a page."""

import tinygrad_cv as tg
from tinygrad_cv import models, nn, viz
from tinygrad_cv.nn import functional as F


def _leaf(values, dtype=tg.float64):
    return tg.tensor(values, dtype=dtype, requires_grad=True)


def _product_of_a_sum():
    x, y, z = _leaf(-2.0), _leaf(5.0), _leaf(-4.0)
    q = x + y
    return q * z, {"x": x, "y": y, "z": z, "q": q}


def _logistic_neuron():
    w0, x0, w1, x1, w2 = _leaf(2.0), _leaf(-1.0), _leaf(-3.0), _leaf(-2.0), _leaf(-3.0)
    return 1 / (1 + tg.exp(-(w0 * x0 + w1 * x1 + w2))), {"w0": w0, "x0": x0, "w1": w1, "x1": x1, "w2": w2}


def _square_by_itself():
    x = _leaf(3.0)
    return x * x + x, {"x": x}


def _maximum_routes():
    x, y = _leaf([1.0, -2.0, 3.0]), _leaf([0.5, 4.0, 3.5])
    return (2 * tg.maximum(x, y)).sum(), {"x": x, "y": y}


def _hinge():
    x, w, b = _leaf([[1.0, -2.0], [3.0, 0.5]]), _leaf([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]]), _leaf([0.1, -0.2, 0.3])
    return tg.maximum(tg.tensor(0.0, dtype=tg.float64), x @ w + b).sum(), {"x": x, "w": w, "b": b}


def _softmax_loss():
    s = _leaf([[3.2, 5.1, -1.7], [0.5, 0.25, 1.0]])
    return F.cross_entropy(s, tg.tensor([0, 2])), {"s": s}


def _convolution():
    image, filters, bias = (
        tg.randn(2, 3, 6, 5, dtype=tg.float64),
        tg.randn(4, 3, 3, 3, dtype=tg.float64),
        tg.randn(4, dtype=tg.float64),
    )
    for tensor in (image, filters, bias):
        tensor.requires_grad_()
    out = F.conv2d(image, filters, bias, stride=2, padding=1)
    return (out * out).sum(), {"image": image, "filters": filters, "bias": bias}


def _grouped_dilated_convolution():
    image, filters = tg.randn(1, 4, 7, 7, requires_grad=True), tg.randn(4, 2, 2, 3, requires_grad=True)
    out = F.conv2d(image, filters, None, stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2)
    return out.tanh().sum(), {"image": image, "filters": filters}


def _pooling():
    image = tg.randn(2, 2, 5, 5, dtype=tg.float64, requires_grad=True)
    weights = tg.randn(2, 2, 3, 3, dtype=tg.float64)
    return (F.max_pool2d(image, 3, stride=1) * weights).sum() + (F.avg_pool2d(image, 3, stride=2, padding=1) * weights).sum(), {
        "image": image
    }


def _odd_pooling():
    image = tg.randn(1, 2, 7, 6, dtype=tg.float64, requires_grad=True)
    pooled = [
        F.avg_pool2d(image, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        F.avg_pool2d(image, (2, 3), stride=(2, 1), ceil_mode=True),
        F.avg_pool2d(image, 2, divisor_override=3),
        F.max_pool2d(image, 2, stride=2, padding=1, dilation=2, ceil_mode=True),
        F.adaptive_avg_pool2d(image, (3, 4)),
        F.adaptive_max_pool2d(image, (3, 4)),
    ]
    return sum((p * tg.randn(*p.shape, dtype=tg.float64)).sum() for p in pooled), {"image": image}


def _rows_and_columns():
    a, b, c = (tg.randn(*s, dtype=tg.float64, requires_grad=True) for s in ((3, 4), (2, 4, 5), (2, 3, 5)))
    left = (a @ b).softmax(1).log().sum() + tg.bmm(c.transpose(1, 2), a @ b).square().sum()
    return left + F.layer_norm(a @ b[0], (5,)).square().mean() + (a[0] @ a[1]), {"a": a, "b": b, "c": c}


def _smoothed_and_weighted_loss():
    s, weight = _leaf([[3.2, 5.1, -1.7], [0.5, 0.25, 1.0], [2.0, -1.0, 0.0]]), tg.tensor([0.5, 1.0, 2.0], dtype=tg.float64)
    target = tg.tensor([0, 2, -100])
    return F.cross_entropy(s, target, weight=weight, label_smoothing=0.1) + F.log_softmax(s, 0)[0, 1], {"s": s}


def _batch_norm():
    layer = nn.BatchNorm2d(3).double()
    with tg.no_grad():
        layer.weight.copy_(tg.tensor([0.5, 1.5, -1.0]))
    image = tg.randn(4, 3, 3, 2, dtype=tg.float64, requires_grad=True)
    return (layer(image) * tg.randn(4, 3, 3, 2, dtype=tg.float64)).sum(), {"image": image, **dict(layer.named_parameters())}


def _shared_weights():
    w, a, b = _leaf([[0.5, -1.0], [2.0, 0.25]]), _leaf([1.0, 2.0]), _leaf([-1.0, 0.5])
    return (tg.tanh(w @ a) + tg.tanh(w @ b)).sum(), {"w": w, "a": a, "b": b}


def _unrolled_rnn():
    layer = nn.RNN(2, 3).double()
    return layer(tg.randn(3, 1, 2, dtype=tg.float64))[0].sum(), dict(layer.named_parameters())


def _two_layers():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    return F.cross_entropy(model(tg.randn(2, 4)), tg.tensor([0, 2])), dict(model.named_parameters())


def _not_finite():
    a, b = _leaf([1.0, float("nan"), float("inf"), 2.0, 0.0]), _leaf([0.0, 1.0, 2.0, 0.5, 3.0])
    return (a * b).log().sum(), {"a": a, "b": b}


def _not_finite_through_layers():
    x, w = _leaf([[1.0, float("nan"), -2.0], [0.5, float("-inf"), 1.0], [3.0, -1.0, 2.0]]), _leaf([[1.0, 2.0, -1.0]] * 3)
    hidden = F.layer_norm((x @ w).relu() + x, (3,))
    return F.cross_entropy(hidden.tanh(), tg.tensor([0, 2, 1])) + x.exp().mean(), {"x": x, "w": w}


def _empty():
    x, none = _leaf([1.0, 2.0]), tg.zeros(0, 3, dtype=tg.float64, requires_grad=True)
    return (x * x).sum() + none.relu().sum(), {"x": x, "none": none}


GRAPHS = {
    name.lstrip("_").replace("_", " "): make
    for name, make in list(globals().items())
    if name.startswith("_") and callable(make) and not name.startswith(("__", "_leaf"))
}


def lenet_page(tmp_path_factory):
    """For a fixture: the page of LeNet-5 with random weights on a digit, and the loss it explains."""
    tg.manual_seed(0)
    model = models.create("lenet5").eval()
    image, label = tg.data.MNIST(train=False)[0]
    loss = F.cross_entropy(model(tg.as_tensor(image).unsqueeze(0)), tg.tensor([label]))
    path = tmp_path_factory.mktemp("lenet") / "lenet5.html"
    viz.explain(loss, path, names={"loss": loss}, title="LeNet-5")
    return path, loss


def first_page(tmp_path_factory):
    """For a fixture: the page of (x + y) * z."""
    loss, names = _product_of_a_sum()
    path = tmp_path_factory.mktemp("first") / "first.html"
    viz.explain(loss, path, names={**names, "f": loss}, title="(x + y) * z")
    return path


def open_all(page):
    """Opens every folded module by its button."""
    for _ in range(60):
        closed = page.locator('[data-cluster][aria-expanded="false"]')
        if closed.count() == 0:
            return
        closed.first.focus()
        page.keyboard.press("Enter")
    raise AssertionError("modules still folded")


def to_the_end(page):
    page.locator("#last").click()


def step_of(page):
    return int(page.locator("#step-index").text_content())
