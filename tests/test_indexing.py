"""`x[...]`, views, in-place writes and what they do to gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import tinygrad_cv as tg

f64 = tg.float64


def values(*shape):
    return np.arange(1.0, 1 + np.prod(shape)).reshape(shape)


INDICES = [
    0, -1, (1, 2), (1, 2, -1), slice(1, None), slice(None, None, 2), slice(None, None, -1), slice(5, 1, -2),
    slice(3, 3), ..., None, (..., 0), (None, 1, ..., None), (slice(0, 2), slice(1, 3), 1),
    (np.int64(1), slice(np.int32(0), np.uint8(2))), (), True, False, [0, 2], np.array([[0, -1], [1, 1]]),
    ([0, 1], [1, 2]), (slice(None), [0, 3, 0]), (..., [1, 0]), ([0, 1], slice(None), [1, 0]),
    (0, slice(None), [1, 0]), ([[0], [1]], [0, 1, 2]), np.array([True, False, True]),
    (slice(None), np.array([1, 0, 0, 1], bool)), (np.array([1, 0, 1], bool), [0, 3]), values(3, 4, 2) > 5,
    values(3, 4) > 5, (None, values(3, 4) > 5, 0), [], np.array([], int), np.array(2), [True, False, True], range(2),
    (0, None, [1, 2]),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_reading_and_its_gradient_follow_numpy(index):
    array = values(3, 4, 2)
    x = tg.tensor(array, requires_grad=True)
    expected = array[index]
    got = x[index]
    np.testing.assert_array_equal(got.detach().numpy(), expected)
    upstream = np.random.default_rng(0).normal(size=np.shape(expected))
    got.backward(tg.tensor(upstream))
    gradient = np.zeros_like(array)
    np.add.at(gradient, index, upstream)
    np.testing.assert_allclose(x.grad.numpy(), gradient)


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_writing_follows_numpy(index):
    array = values(3, 4, 2)
    for value in (7.0, -values(*np.shape(array[index]))):
        expected = array.copy()
        expected[index] = value
        x = tg.tensor(array)
        x[index] = value if np.ndim(value) == 0 else tg.tensor(value)
        np.testing.assert_array_equal(x.numpy(), expected)


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_gradients_of_an_assignment(index):
    array = values(3, 4, 2)
    a = tg.tensor(array, requires_grad=True)
    b = tg.tensor(-values(*np.shape(array[index])), requires_grad=True)
    x = a * 1.0
    x[index] = b
    upstream = np.random.default_rng(1).normal(size=array.shape)
    x.backward(tg.tensor(upstream))
    # The writer that a place keeps is the last one in row-major order.
    writer = np.full(array.shape, -1)
    writer[index] = np.arange(np.size(array[index])).reshape(np.shape(array[index]))
    np.testing.assert_array_equal(a.grad.numpy(), np.where(writer < 0, upstream, 0))
    expected = [upstream[writer == k].sum() for k in range(b.numel())]
    np.testing.assert_allclose(b.grad.numpy().ravel(), expected)


def test_assigned_values_broadcast_and_cast():
    x = tg.zeros(2, 3)
    x[:, 1:] = tg.tensor([[5], [6]])
    x[0] = np.float64(2)
    x[1] = tg.ones(1, 1, 3)
    assert x.tolist() == [[2, 2, 2], [1, 1, 1]]
    i = tg.zeros(2, dtype=tg.int64)
    i[0] = 2.7
    assert i.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (3, "index 3 is out of range for axis 0 of size 3"),
        ((0, -5), "index -5 is out of range for axis 1 of size 4"),
        ((slice(None), [0, 4]), "index 4 is out of range for axis 1 of size 4"),
        ((0, 0, 0, 0), "4 indices for a tensor of 3 axes"),
        ((..., 0, ...), "only one ellipsis"),
        (np.array([True, False]), r"mask of shape \(2,\)"),
        (np.array([0.5]), "must hold integers or booleans"),
        ("a", "got str"),
        (slice(0.5, 1), "bounds and step of a slice must be integers"),
        (slice(None, None, 0), "step of a slice must not be 0"),
        (([0, 1], [0, 1, 2]), "do not broadcast"),
        ([[0], [1, 2]], "rows of an index list must have equal lengths"),
    ],
)
def test_errors_of_an_index(index, words):
    x = tg.zeros(3, 4, 2)
    with pytest.raises(IndexError, match="getitem: .*" + words):
        x[index]
    with pytest.raises(IndexError, match="setitem: .*" + words):
        x[index] = 1.0
    assert x.sum().item() == 0


def test_errors_of_an_assigned_value():
    x = tg.zeros(3, 4)
    with pytest.raises(ValueError, match=r"setitem: a value of shape \(3,\) does not fit the indexed region of shape \(4,\)"):
        x[0] = tg.ones(3)
    with pytest.raises(ValueError, match=r"setitem: .*\(2, 4\)"):
        x[0] = tg.ones(2, 4)


def test_a_later_write_to_the_index_does_not_change_the_gradient():
    x = tg.tensor(values(3), requires_grad=True)
    for where in (tg.tensor([0, 2]), np.array([0, 2])):
        y = x[where]
        where[0] = 1
        (g,) = tg.autograd.grad(y.sum(), x)
        assert g.tolist() == [1, 0, 1]


# Views ----------------------------------------------------------------------------------------------------------------


VIEWS = {
    "getitem": lambda x: x[1:, None, ::-1],
    "reshape": lambda x: x.reshape(4, 6),
    "view": lambda x: x.view(4, 6),
    "flatten": lambda x: x.flatten(1),
    "ravel": lambda x: x.ravel(),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "permute": lambda x: x.permute(2, 0, 1),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "transpose": lambda x: x.transpose(0, 2),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "movedim": lambda x: x.movedim(0, -1),
    "t": lambda x: x[0].t(),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x[:1].squeeze(0),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(1, 2),
    "split": lambda x: x.split(3, dim=1)[1],
    "chunk": lambda x: x.chunk(2, dim=2)[1],
    "unbind": lambda x: x.unbind(1)[3],
    "iteration": lambda x: list(x)[1],
    "unfold": lambda x: x.unfold(1, 2, 2),
    "detach": lambda x: x.detach(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory(name):
    x = tg.tensor(values(3, 4, 2))
    v = VIEWS[name](x)
    assert np.shares_memory(v.numpy(), x.numpy())
    v.fill_(-1.0)
    assert (x.numpy() == -1).sum() == v.numel()
    x.zero_()
    assert not v.numpy().any()


@pytest.mark.parametrize("name", sorted(set(VIEWS) - {"detach"}))
def test_a_write_through_a_view_has_the_gradient_of_the_write(name):
    a = tg.tensor(values(3, 4, 2), requires_grad=True)
    x = a * 1.0
    v = VIEWS[name](x)
    b = tg.tensor(values(*v.shape), requires_grad=True)
    v.copy_(b)
    upstream = values(3, 4, 2) ** 2
    x.backward(tg.tensor(upstream))
    seen = VIEWS[name](tg.tensor(upstream)).numpy()
    np.testing.assert_array_equal(b.grad.numpy(), seen)
    kept = tg.tensor(upstream)
    VIEWS[name](kept).zero_()
    np.testing.assert_array_equal(a.grad.numpy(), kept.numpy())


def test_expanded_memory_cannot_be_written_but_its_parts_can():
    x = tg.tensor([1.0, 2.0])
    e = x.expand(3, 2)
    for write in (lambda: e.add_(1), lambda: e.zero_(), lambda: e.__setitem__(0, 1.0), lambda: e[:2].fill_(0)):
        with pytest.raises(RuntimeError, match=r"expanded .*clone"):
            write()
    with pytest.raises(RuntimeError, match="clone"):
        tg.arange(4).unfold(0, 2, 1).zero_()
    e[1].mul_(3)
    assert x.tolist() == [3, 6]


def test_read_only_memory_cannot_be_written():
    array = np.ones(3)
    array.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        tg.from_numpy(array).zero_()


@pytest.mark.parametrize(
    "write",
    [
        lambda x, v: x.add_(1),
        lambda x, v: v.mul_(2),
        lambda x, v: v.__setitem__(0, 5.0),
        lambda x, v: v.t().zero_(),
        lambda x, v: v.copy_(tg.ones(1, dtype=f64)),
        lambda x, v: x.detach().fill_(1.0),
        lambda x, v: x.data.fill_(1.0),
        lambda x, v: copy.copy(x).data.fill_(1.0),
    ],
)
def test_memory_saved_for_backward_is_guarded_before_the_write(write):
    a = tg.tensor(values(2, 3), requires_grad=True)
    x = a * 1.0
    v = x[1]
    y = x.exp() + x.detach().exp() + (v * v).sum()
    before = x.detach().numpy().copy()
    with pytest.raises(RuntimeError, match="was saved by mul and is still needed for its backward"):
        write(x, v)
    np.testing.assert_array_equal(x.detach().numpy(), before)
    y.sum().backward()
    write(x, v)


def test_a_leaf_that_requires_grad_is_written_only_under_no_grad():
    w = tg.tensor(values(2, 3), requires_grad=True)
    for write in (lambda: w.add_(1), lambda: w[0].add_(1), lambda: w.__setitem__(0, 1.0), lambda: w.t().zero_()):
        with pytest.raises(RuntimeError, match="leaf tensor that requires grad cannot be changed in place"):
            write()
    with tg.no_grad():
        w[0] = 9.0
        w[1].add_(1)
    assert w.is_leaf and w.requires_grad and w.tolist() == [[9, 9, 9], [5, 6, 7]]


def test_a_write_under_no_grad_is_caught_by_the_version_check():
    w = tg.tensor(values(3), requires_grad=True)
    x = w * 2
    y = x.exp()
    version = x._version
    with tg.no_grad(), pytest.raises(RuntimeError, match=r"zero_: this memory .* was saved by"):
        y.zero_()
    with tg.no_grad():
        x.add_(1)
    assert x._version == version + 1
    y.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * np.exp(2 * values(3)))


def test_a_view_made_under_no_grad_is_not_written_while_gradients_are_recorded():
    w = tg.tensor(values(3), requires_grad=True)
    x = w * 2
    with tg.no_grad():
        v = x[0:2]
        v.add_(1)
    with pytest.raises(RuntimeError, match="made under no_grad"):
        v.add_(1)


def test_a_write_without_gradient_cuts_the_history():
    w = tg.tensor(values(3), requires_grad=True)
    x = w * 2
    x.fill_(1.0)
    (x * w).sum().backward()
    assert w.grad.tolist() == [1, 1, 1]
    y = w * 2
    v = y[1:]
    v.eq_(6.0)
    assert y.tolist() == [2, 0, 1]
    (g,) = tg.autograd.grad(y.sum(), w)
    assert g.tolist() == [2, 0, 0]


def test_other_views_see_the_new_history():
    w = tg.tensor(values(4), requires_grad=True)
    x = w * 1.0
    first, second, rest = x[:2], x[1:3], x[3:]
    first.mul_(w[2])
    assert second.tolist() == [6, 3] and first.grad_fn is not None
    (g,) = tg.autograd.grad(second.sum() + rest.sum() * 10, w)
    assert g.tolist() == [0, 3, 2 + 1, 10]
    assert second.requires_grad and not second.is_leaf


def test_views_of_a_tensor_without_history_gain_one():
    x = tg.zeros(2, 2, dtype=f64)
    row, column = x[0], x[:, 0]
    w = tg.tensor([3.0, 4.0], dtype=f64, requires_grad=True)
    assert not column.requires_grad
    row.add_(w)
    assert x.requires_grad and column.requires_grad and x[1].requires_grad
    (column * tg.tensor([10.0, 1.0])).sum().backward()
    assert w.grad.tolist() == [10, 0]


def test_in_place_forms_return_the_tensor_and_keep_retained_gradients():
    w = tg.tensor(values(3), requires_grad=True)
    x = w * 1.0
    x.retain_grad()
    assert x.mul_(3) is x and x.copy_(x) is x and x.fill_(2.0) is x and x.zero_() is x
    y = w * 1.0
    y.retain_grad()
    y.mul_(w)
    (y * 5).sum().backward()
    assert y.grad.tolist() == [5, 5, 5]
    np.testing.assert_allclose(w.grad.numpy(), 5 * 2 * values(3))


def test_retained_gradients_follow_bases_and_views_through_writes():
    w = tg.tensor(values(3), requires_grad=True)
    x = w * 1.0
    v = x[:2]
    x.retain_grad()
    v.retain_grad()
    x.mul_(3)
    v.mul_(5)
    v.backward(tg.tensor([1.0, 10.0], dtype=f64))
    assert v.grad.tolist() == [1, 10] and x.grad.tolist() == [1, 10, 0] and w.grad.tolist() == [15, 150, 0]


def test_augmented_assignment_to_an_element():
    w = tg.tensor(values(3), requires_grad=True)
    x = w * 1.0
    x[0] *= w[1]
    x[1:] += x[:2]
    x.backward(tg.tensor([1.0, 10.0, 100.0], dtype=f64))
    assert x.tolist() == [2, 4, 5]
    assert w.grad.tolist() == [2 * (1 + 10), 1 * (1 + 10) + 10 + 100, 100]


def test_overlapping_assignment_reads_before_it_writes():
    x = tg.arange(5)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3]
    y = tg.arange(4)
    y.copy_(y.flip(0))
    y[:] = y[::-1]
    assert y.tolist() == [0, 1, 2, 3]


def test_copy_fill_and_zero_check_before_they_write():
    x = tg.zeros(2, 3)
    with pytest.raises(ValueError, match=r"copy_: a value of shape \(2,\) does not fit"):
        x.copy_(tg.ones(2))
    with pytest.raises(TypeError, match="copy_: expected a Tensor, got float"):
        x.copy_(1.0)
    with pytest.raises(ValueError, match="fill_: expected a number or a 0-d tensor"):
        x.fill_(tg.ones(3))
    w = tg.tensor(2.0, requires_grad=True)
    x.fill_(w).sum().backward()
    assert w.grad.item() == 6


def test_a_view_of_a_transposed_base_is_written_in_the_right_place():
    base = tg.from_numpy(values(3, 4).T)  # column-major: flattening its transpose is a view, flattening a copy of it is not
    w = tg.tensor(values(12), requires_grad=True)
    line = base.T.reshape(12)
    line.mul_(w)
    assert np.shares_memory(line.detach().numpy(), base.detach().numpy())
    upstream = values(4, 3) ** 2
    base.backward(tg.tensor(upstream))
    np.testing.assert_array_equal(w.grad.numpy(), (upstream.T * values(3, 4)).ravel())


# Random programs of views and writes, against the same program without either -----------------------------------------


def _random_view(rng, t):
    """A random view operator as a function that works on our tensors and on PyTorch's."""
    options = [lambda v: v.unsqueeze(rng_axis)]
    rng_axis = int(rng.integers(0, t.ndim + 1))
    if t.ndim:
        a, b = int(rng.integers(t.ndim)), int(rng.integers(t.ndim))
        n = t.shape[a]
        i = int(rng.integers(n))
        length = int(rng.integers(1, n - i + 1))
        step = int(rng.integers(1, 3))
        order = [int(k) for k in rng.permutation(t.ndim)]
        options += [
            lambda v: v.transpose(a, b),
            lambda v: v.permute(*order),
            lambda v: v.movedim(a, b),
            lambda v: v.select(a, i),
            lambda v: v.narrow(a, i, length),
            lambda v: v[(slice(None),) * a + (slice(i, None, step), None)],
            lambda v: v.unfold(a, length, length),
            lambda v: v.squeeze(a),
            lambda v: v.unflatten(a, (1, -1)),
            lambda v: v.split(length, a)[0],
        ]
    return options[int(rng.integers(len(options)))]


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_of_views_and_writes(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    start, more = rng.normal(size=(3, 4, 2)), rng.normal(size=30)
    ours = [tg.tensor(a, requires_grad=True) for a in (start, more)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (start, more)]
    if rng.integers(2):
        base, flat = ours[0] * 1.5, theirs[0].reshape(-1) * 1.5
    else:
        base, flat = tg.tensor(start), torch.tensor(start).reshape(-1)
    # Each view is kept with the places of the base that it shows; the oracle reads and writes `flat` by place, out of place.
    views = [(base, torch.arange(24).reshape(3, 4, 2))]
    loss, expected = 0.0, 0.0
    for _ in range(12):
        view, places = views[int(rng.integers(len(views)))]
        action = int(rng.integers(10))
        constant = rng.normal(size=tuple(places.shape))
        now = flat[places]
        if action < 4:
            make = _random_view(rng, places)
            views.append((make(view), make(places)))
            continue
        if action == 4:
            loss = loss + (view * tg.tensor(constant)).sum()
            expected = expected + (now * torch.tensor(constant)).sum()
            continue
        if action == 5:
            view.mul_(2.0).add_(tg.tensor(constant))
            new = now * 2 + torch.tensor(constant)
        elif action == 6 and places.numel() <= 30:
            view.mul_(ours[1][: places.numel()].reshape(tuple(places.shape)))
            new = now * theirs[1][: places.numel()].reshape(places.shape)
        elif action == 7:
            view.copy_(ours[1][3])
            new = theirs[1][3].expand(places.shape)
        elif action == 8:
            other, elsewhere = views[int(rng.integers(len(views)))]
            if other.shape != view.shape:
                continue
            view[...] = other * 0.5
            new = flat[elsewhere] * 0.5
        else:
            view.sigmoid_()
            new = now.sigmoid()
        flat = flat.index_put((places,), new)
    for view, places in views:
        np.testing.assert_allclose(view.detach().numpy(), flat[places].detach().numpy(), rtol=1e-12)
        constant = rng.normal(size=tuple(places.shape))
        loss = loss + (view * tg.tensor(constant)).sum()
        expected = expected + (flat[places] * torch.tensor(constant)).sum()
    if not expected.requires_grad:
        assert not loss.requires_grad
        return
    got = tg.autograd.grad(loss, ours, allow_unused=True)
    wanted = torch.autograd.grad(expected, theirs, allow_unused=True)
    for g, w in zip(got, wanted, strict=True):
        g = np.zeros(1) if g is None else g.numpy()
        np.testing.assert_allclose(g, 0 if w is None else w.numpy(), rtol=1e-10, atol=1e-10)
