"""Batch normalisation in compiled plans: the ReLU and the shortcut in its kernels, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn

SHAPES = [(3, 5, 7, 3), (1, 7, 9, 11), (2, 17, 1, 1), (6, 13), (4, 3, 65), (2, 3, 4, 33, 2), (33, 2, 17)]


def data(rng, shape, dtype):
    return tg.from_numpy((rng.standard_normal(shape) * 2 + 0.5).astype(dtype))


class Around(nn.Module):
    """A batch normalisation and what comes after it."""

    def __init__(self, kind, affine, shape, dtype):
        super().__init__()
        self.kind = kind
        layer = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
        self.layer = layer(shape[1], affine=affine).to(dtype=np.dtype(dtype))
        rng = np.random.default_rng(5)
        for p in self.layer.parameters():
            p._data[...] = rng.uniform(-1, 1, shape[1])

    def forward(self, x, shortcut):
        out = self.layer(x)
        if self.kind == "add":
            return shortcut + out
        if self.kind == "add relu":
            out = out + shortcut
        return out.relu() if "relu" in self.kind else out


def everything(model, x, shortcut, upstream):
    """The output of a training step, all gradients and the statistics."""
    x, shortcut = x.detach().requires_grad_(), shortcut.detach().requires_grad_()
    model.zero_grad()
    out = model(x, shortcut)
    out.backward(upstream)
    grads = [t.grad.clone() for t in (x, shortcut, *model.parameters()) if t.grad is not None]
    return [t.detach().numpy().copy() for t in (out, *grads, *model.buffers())]


def steps_of(compiled):
    return [" + ".join(s.operators) for s in tg.compile.explain(compiled).plans[0].steps]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["", "relu", "add", "add relu"])
def test_fused_training_gives_the_bits_of_eager_on_fresh_data(kind, affine, dtype):
    for shape in SHAPES:
        eager, compiled = Around(kind, affine, shape, dtype), tg.compile(Around(kind, affine, shape, dtype))
        rng = np.random.default_rng(0)
        for _ in range(4):
            given = [data(rng, shape, dtype) for _ in range(3)]
            for a, b in zip(everything(eager, *given), everything(compiled, *given), strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b, f"{kind} {shape}")
        steps = steps_of(compiled)
        if kind:
            assert f"batch_norm_with_statistics + {' + '.join(kind.split())}" in steps, steps
        if "relu" in kind:
            assert "threshold_backward + batch_norm_backward" in steps, steps


def test_what_was_fused_equals_pytorch():
    torch = pytest.importorskip("torch")
    shape = (5, 6, 5, 7)
    model, theirs = Around("add relu", True, shape, np.float64), torch.nn.BatchNorm2d(6, dtype=torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(v.detach().numpy().copy()) for k, v in model.layer.state_dict().items()})
    compiled = tg.compile(model)
    rng = np.random.default_rng(1)
    for _ in range(4):
        given = [data(rng, shape, np.float64) for _ in range(3)]
        x, shortcut, upstream = (torch.from_numpy(g.numpy().copy()).requires_grad_(i < 2) for i, g in enumerate(given))
        theirs.zero_grad()
        out = torch.relu(theirs(x) + shortcut)
        out.backward(upstream)
        expected = [out, x.grad, shortcut.grad, theirs.weight.grad, theirs.bias.grad, *theirs.buffers()]
        for a, b in zip(everything(compiled, *given), expected, strict=True):
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-9, atol=1e-9)


class Block(nn.Module):
    """Two residual blocks, the first with a normalised shortcut."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.Conv2d(3, 6, 1, bias=False)])
        self.more = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6) for _ in range(3)])

    def forward(self, x):
        a, b = (norm(conv(x)) for conv, norm in zip(self.convs, self.norms, strict=False))
        x = (a + b).relu()
        return (self.norms[2](self.more(x)) + x).relu()


@pytest.mark.parametrize("batch", [1, 5])
def test_residual_blocks_share_the_masked_gradient(batch):
    results = []
    for ready in (lambda f: f, tg.compile):
        tg.manual_seed(0)
        model = Block()
        optimizer = tg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x).flatten(1), tg.zeros(len(x), dtype=np.int64))
            loss.backward()
            optimizer.step()
            return loss

        step = ready(step)
        rng = np.random.default_rng(2)
        losses = [step(data(rng, (batch, 3, 9, 7), np.float32)).item() for _ in range(5)]
        results.append([losses, *(t.detach().numpy().copy() for t in (*model.parameters(), *model.buffers()))])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    steps = steps_of(step)
    assert steps.count("batch_norm_with_statistics + add + relu") == 2, steps
    assert "add + threshold_backward + batch_norm_backward" in steps or "threshold_backward + batch_norm_backward" in steps, (
        steps
    )
    assert tg.compile.explain(step).plans[0].fused >= 8


@pytest.mark.parametrize("training", [True, False])
def test_a_module_keeps_its_mode(training):
    tg.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).train(training)
    rng = np.random.default_rng(0)
    layer[1].running_mean._data[...] = rng.standard_normal(3)
    layer[1].running_var._data[...] = rng.uniform(0.5, 2, 3)
    before = {k: v.detach().numpy().copy() for k, v in layer.state_dict().items()}
    results = []
    for ready in (lambda f: f, tg.compile):
        layer.load_state_dict({k: tg.from_numpy(v.copy()) for k, v in before.items()})
        call = ready(lambda x: layer(x))
        rng = np.random.default_rng(4)
        with tg.no_grad():
            outs = [call(data(rng, (2, 2, 6, 5), np.float32)).numpy().copy() for _ in range(4)]
        results.append([*outs, *(v.detach().numpy().copy() for v in layer.state_dict().values())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def parts(body, shapes=((4, 3, 5, 5), (4, 3, 5, 5))):
    """The steps of a compiled function of (x, y) around training batch normalisation, whose results equal eager's."""
    compiled = tg.compile(body)
    rng = np.random.default_rng(6)
    for _ in range(3):
        given = [data(rng, s, np.float32) for s in shapes]
        for a, b in zip(body(*given), compiled(*given), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6, atol=1e-6)
    return steps_of(compiled)


def normalised(x):
    return nn.functional.batch_norm(x, None, None, training=True)


def test_nothing_is_fused_that_others_need_or_that_is_another_operation():
    def used_twice(x, y):
        out = normalised(x)
        return out.relu(), out

    def with_itself(x, y):
        out = normalised(x)
        return ((out + out).relu(),)

    def scaled(x, y):
        return (tg.add(normalised(x), y, alpha=0.5).relu(),)

    def broadcast(x, y):
        return ((normalised(x) + y).relu(),)

    def with_a_number(x, y):
        return ((normalised(x) + 1.0).relu(),)

    for body in (used_twice, with_itself, scaled, with_a_number):
        assert not any(s.startswith("batch_norm_with_statistics +") for s in parts(body)), body
    steps = parts(broadcast, ((4, 3, 5, 5), (3, 1, 1)))
    assert not any(s.startswith("batch_norm_with_statistics +") for s in steps)

    def sum_used_twice(x, y):
        total = normalised(x) + y
        return total.relu(), total

    assert "batch_norm_with_statistics + add" in parts(sum_used_twice)

    def of_two(x, y):
        return ((normalised(x) + normalised(y)).relu(),)

    assert "batch_norm_with_statistics + add + relu" in parts(of_two)


def test_another_threshold_is_not_taken_for_that_of_a_relu():
    class Raised(Around):
        def forward(self, x, shortcut):
            return nn.functional.threshold(self.layer(x) + shortcut, 0.25, 0.5)

    shape = (3, 4, 5, 6)
    eager, compiled = Raised("", True, shape, np.float32), tg.compile(Raised("", True, shape, np.float32))
    rng = np.random.default_rng(0)
    for _ in range(4):
        given = [data(rng, shape, np.float32) for _ in range(3)]
        for a, b in zip(everything(eager, *given), everything(compiled, *given), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert not any("threshold_backward + batch_norm_backward" in s for s in steps_of(compiled))


def test_nan_and_infinity_pass_as_in_eager():
    def body(x, y):
        return (normalised(x) + y).relu()

    compiled = tg.compile(body)
    rng = np.random.default_rng(7)
    for bad in (None, None, np.nan, np.inf, -np.inf):
        x, y = data(rng, (3, 4, 6, 6), np.float32), data(rng, (3, 4, 6, 6), np.float32)
        if bad is not None:
            x._data[1, 2, 3, 4] = y._data[0, 0, 0, 0] = bad
        np.testing.assert_array_equal(body(x, y).detach().numpy(), compiled(x, y).detach().numpy())
