"""Recurrent layers and cells against PyTorch in float64, and against their equations written out in NumPy."""

import itertools
import math

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def load(torch, name, *args, **kwargs):
    theirs, ours = getattr(torch.nn, name)(*args, **kwargs).double(), getattr(nn, name)(*args, **kwargs).double()
    assert list(theirs.state_dict()) == list(ours.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return theirs, ours


def tensors(torch, arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays], [tg.tensor(a, requires_grad=True) for a in arrays]


def same_gradients(theirs, ours, their_leaves, our_leaves):
    for a, b in zip(our_leaves, their_leaves, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-12)
    for (key, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=key)


SETTINGS = [
    *[
        {"num_layers": n, "bidirectional": b, "batch_first": f}
        for n, b, f in itertools.product((1, 2), (False, True), (False, True))
    ],
    {"bias": False},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(
    "name, extra",
    [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("LSTM", {"proj_size": 2}), ("GRU", {})],
    ids=str,
)
def test_layer_computes_what_pytorch_computes(name, extra, settings):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs, ours = load(torch, name, 3, 4, **settings, **extra)
    rng = np.random.default_rng(1)
    steps, batch = 5, 2
    count = settings.get("num_layers", 1) * (2 if settings.get("bidirectional") else 1)
    x = rng.standard_normal((batch, steps, 3) if settings.get("batch_first") else (steps, batch, 3))
    starts = [rng.standard_normal((count, batch, extra.get("proj_size", 4)))]
    if name == "LSTM":
        starts.append(rng.standard_normal((count, batch, 4)))
    their_leaves, our_leaves = tensors(torch, [x, *starts])

    def run(module, leaves):
        out, last = module(leaves[0], tuple(leaves[1:]) if name == "LSTM" else leaves[1])
        return [out, *(last if name == "LSTM" else [last])]

    their_outs, our_outs = run(theirs, their_leaves), run(ours, our_leaves)
    for a, b in zip(our_outs, their_outs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)
    upstreams = [rng.standard_normal(tuple(o.shape)) for o in their_outs]
    torch.autograd.backward(their_outs, [torch.tensor(u) for u in upstreams])
    tg.autograd.backward(our_outs, [tg.tensor(u) for u in upstreams])
    same_gradients(theirs, ours, their_leaves, our_leaves)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_unbatched_input_is_a_batch_of_one(name):
    tg.manual_seed(1)
    layer = getattr(nn, name)(3, 4, num_layers=2, bidirectional=True).double()
    x = tg.randn(5, 3, dtype=tg.float64)
    out, last = layer(x)
    batched_out, batched_last = layer(x.unsqueeze(1))
    assert out.shape == (5, 8)
    np.testing.assert_allclose(out.detach().numpy(), batched_out[:, 0].detach().numpy(), rtol=1e-12)
    for a, b in zip(last, batched_last, strict=True) if name == "LSTM" else [(last, batched_last)]:
        assert a.shape == (4, 4)
        np.testing.assert_allclose(a.detach().numpy(), b[:, 0].detach().numpy(), rtol=1e-12)


def test_lstm_equations_written_out():
    tg.manual_seed(2)
    cell = nn.LSTMCell(3, 4).double()
    rng = np.random.default_rng(3)
    x, h, c = rng.standard_normal((2, 3)), rng.standard_normal((2, 4)), rng.standard_normal((2, 4))
    w_ih, w_hh, b_ih, b_hh = (p.detach().numpy() for p in cell.parameters())
    i, f, g, o = np.split(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=1)
    next_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    next_h = sigmoid(o) * np.tanh(next_c)
    ours = cell(tg.tensor(x), (tg.tensor(h), tg.tensor(c)))
    np.testing.assert_allclose(ours[0].detach().numpy(), next_h, rtol=1e-12)
    np.testing.assert_allclose(ours[1].detach().numpy(), next_c, rtol=1e-12)


def test_gru_equations_written_out():
    tg.manual_seed(4)
    cell = nn.GRUCell(3, 4).double()
    rng = np.random.default_rng(5)
    x, h = rng.standard_normal((2, 3)), rng.standard_normal((2, 4))
    w_ih, w_hh, b_ih, b_hh = (p.detach().numpy() for p in cell.parameters())
    input_r, input_z, input_n = np.split(x @ w_ih.T + b_ih, 3, axis=1)
    hidden_r, hidden_z, hidden_n = np.split(h @ w_hh.T + b_hh, 3, axis=1)
    z = sigmoid(input_z + hidden_z)
    n = np.tanh(input_n + sigmoid(input_r + hidden_r) * hidden_n)
    np.testing.assert_allclose(cell(tg.tensor(x), tg.tensor(h)).detach().numpy(), (1 - z) * n + z * h, rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3), (3,)])
@pytest.mark.parametrize(
    "name, extra",
    [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu", "bias": False}), ("LSTMCell", {}), ("GRUCell", {})],
    ids=str,
)
def test_cell_computes_what_pytorch_computes(name, extra, shape):
    torch = pytest.importorskip("torch")
    torch.manual_seed(6)
    theirs, ours = load(torch, name, 3, 4, **extra)
    rng = np.random.default_rng(7)
    state = (*shape[:-1], 4)
    arrays = [rng.standard_normal(s) for s in ([shape, state, state] if name == "LSTMCell" else [shape, state])]
    their_leaves, our_leaves = tensors(torch, arrays)

    def run(module, leaves):
        return module(leaves[0], tuple(leaves[1:])) if name == "LSTMCell" else (module(*leaves),)

    their_outs, our_outs = run(theirs, their_leaves), run(ours, our_leaves)
    upstreams = [rng.standard_normal(tuple(o.shape)) for o in their_outs]
    for a, b in zip(our_outs, their_outs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)
    torch.autograd.backward(their_outs, [torch.tensor(u) for u in upstreams])
    tg.autograd.backward(our_outs, [tg.tensor(u) for u in upstreams])
    same_gradients(theirs, ours, their_leaves, our_leaves)
    fresh_theirs, fresh_ours = theirs(torch.tensor(arrays[0])), ours(tg.tensor(arrays[0]))
    first = (fresh_theirs[0], fresh_ours[0]) if name == "LSTMCell" else (fresh_theirs, fresh_ours)
    np.testing.assert_allclose(first[1].detach().numpy(), first[0].detach().numpy(), rtol=1e-10, atol=1e-12)


def test_second_derivatives_flow_through_time():
    tg.manual_seed(8)
    layer = nn.LSTM(2, 2).double()
    x = tg.randn(3, 1, 2, dtype=tg.float64, requires_grad=True)
    assert tg.autograd.gradgradcheck(lambda t: layer(t)[0], (x,))


def test_dropout_acts_between_layers_only_while_training():
    tg.manual_seed(9)
    layer = nn.GRU(3, 4, num_layers=2, dropout=0.5)
    x = tg.randn(6, 2, 3)
    first, second = layer(x)[0].detach().numpy(), layer(x)[0].detach().numpy()
    assert not np.array_equal(first, second)
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].detach().numpy(), layer(x)[0].detach().numpy())
    with pytest.warns(UserWarning, match="only one layer"):
        nn.GRU(3, 4, dropout=0.5)


def test_initial_values_lie_within_one_over_root_hidden():
    tg.manual_seed(10)
    layer = nn.LSTM(30, 64, num_layers=2)
    bound = 1 / math.sqrt(64)
    for name, p in layer.named_parameters():
        values = p.detach().numpy()
        assert np.abs(values).max() <= bound
        assert abs(values.var() / (bound**2 / 3) - 1) < 0.25, name


def test_prints_as_in_pytorch():
    torch = pytest.importorskip("torch")
    for name, args, kwargs in [
        ("RNN", (3, 4), {}),
        ("LSTM", (3, 4, 2), {"bidirectional": True, "batch_first": True, "dropout": 0.1, "proj_size": 2}),
        ("GRU", (3, 4), {"bias": False}),
        ("LSTMCell", (3, 4), {}),
    ]:
        assert repr(getattr(nn, name)(*args, **kwargs)) == repr(getattr(torch.nn, name)(*args, **kwargs))


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: nn.LSTM(3, 4)(tg.zeros(5, 2, 7)), ValueError, r"input_size 3, got shape \(5, 2, 7\)"),
        (lambda: nn.LSTM(3, 4)(tg.zeros(5, 2, 3), tg.zeros(1, 2, 4)), TypeError, r"\(h_0, c_0\)"),
        (
            lambda: nn.GRU(3, 4)(tg.zeros(5, 2, 3), tg.zeros(2, 2, 4)),
            ValueError,
            r"h_0 has shape \(2, 2, 4\), expected \(1, 2, 4\)",
        ),
        (lambda: nn.RNN(3, 4, nonlinearity="sin"), ValueError, "nonlinearity"),
        (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, "proj_size"),
        (lambda: nn.GRU(3, 0), ValueError, "hidden_size"),
        (lambda: nn.GRUCell(3, 4)(tg.zeros(2, 5)), ValueError, r"expected \(N, 3\)"),
        (lambda: nn.GRUCell(3, 4)(tg.zeros(2, 3), tg.zeros(1, 4)), ValueError, r"hx has shape \(1, 4\), expected \(2, 4\)"),
    ],
)
def test_wrong_shapes_and_settings_raise_by_name(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_sequence_model_learns():
    """The last state of an LSTM learns to remember the first of four bits."""
    tg.manual_seed(0)
    bits = np.array(list(itertools.product((0, 1), repeat=4)))
    x, y = tg.tensor(bits.T[:, :, None].astype(np.float32)), tg.tensor(bits[:, 0])
    lstm, head = nn.LSTM(1, 8), nn.Linear(8, 2)
    optimizer = tg.optim.Adam([*lstm.parameters(), *head.parameters()], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        _, (h, _) = lstm(x)
        loss = nn.functional.cross_entropy(head(h[0]), y)
        loss.backward()
        optimizer.step()
    assert (head(lstm(x)[1][0][0]).argmax(1) == y).all()
