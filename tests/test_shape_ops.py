"""Shape, joining, padding, gathering, sorting and patch operators: errors, edge cases, and answers worked out by hand.

(Values and derivatives on drawn inputs are compared by the walk of the registry.)
"""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_cv as tg


def ints(*values):
    return tg.tensor(list(values), dtype=tg.int64)


ERRORS = [
    (lambda: tg.ones(2, 3).reshape(4, -1), ValueError, r"reshape: shape \(2, 3\) has 6 elements and cannot become \(4, -1\)"),
    (lambda: tg.ones(2, 3).reshape(-1, -1), ValueError, "one -1"),
    (lambda: tg.ones(2, 3).reshape(-2, -3), ValueError, "reshape: shape"),
    (lambda: tg.ones(0, 3).reshape(0, -1), ValueError, "reshape: shape"),
    (lambda: tg.ones(2, 3).t().view(6), RuntimeError, r"view: .*without a copy; use .reshape"),
    (lambda: tg.ones(2, 3).view(5), ValueError, "view: shape"),
    (lambda: tg.ones(2, 3).flatten(1, 0), ValueError, "flatten: start_dim 1 comes after end_dim 0"),
    (lambda: tg.ones(2, 3).flatten(2), IndexError, r"flatten: start_dim 2 is out of range .* use -2\.\.1"),
    (lambda: tg.ones(6).unflatten(0, (4, -1)), ValueError, "unflatten: "),
    (lambda: tg.ones(2, 3).expand(2, 4), ValueError, r"expand: shape \(2, 3\) cannot become \(2, 4\)"),
    (lambda: tg.ones(2, 3).expand(-1, 2, 3), ValueError, "expand: "),
    (lambda: tg.ones(2, 3).expand(3), ValueError, "expand: "),
    (lambda: tg.broadcast_to(tg.ones(2), (3,)), ValueError, "broadcast_to: "),
    (lambda: tg.ones(2, 3).squeeze(2), IndexError, "squeeze: dim 2 is out of range"),
    (lambda: tg.ones(2, 3).unsqueeze(3), IndexError, r"unsqueeze: dim 3 .* use -3\.\.2"),
    (lambda: tg.ones(2, 3).permute(0), ValueError, "permute: dims"),
    (lambda: tg.ones(2, 3).permute(0, -2), ValueError, "permute: dims"),
    (lambda: tg.ones(2, 3).transpose(0, 2), IndexError, "transpose: dim1 2"),
    (lambda: tg.ones(2, 3, 4).t(), ValueError, "t: expected at most two axes"),
    (lambda: tg.ones(2, 3).movedim((0, 0), (1, 0)), ValueError, "movedim: source .* twice"),
    (lambda: tg.ones(2, 3).movedim((0, 1), (1,)), ValueError, "movedim: .*same number"),
    (lambda: tg.cat([]), ValueError, "cat: expected at least one tensor"),
    (lambda: tg.cat([tg.ones(2), 3]), TypeError, "cat: .*holds a int"),
    (lambda: tg.cat([tg.ones(2, 3), tg.ones(3, 3)], 1), ValueError, r"cat: tensor 1 has shape \(3, 3\).*except dim 1"),
    (lambda: tg.cat([tg.tensor(1.0)]), ValueError, "cat: 0-d tensors .* use stack"),
    (lambda: tg.stack([tg.ones(2), tg.ones(3)]), ValueError, r"stack: tensor 1 has shape \(3,\), expected \(2,\)"),
    (lambda: tg.stack([tg.ones(2)], 2), IndexError, "stack: dim 2"),
    (lambda: tg.ones(5).split([2, 2]), ValueError, r"split: sections \[2, 2\] .*5"),
    (lambda: tg.ones(5).split(0), ValueError, "split: the size of a piece must be positive"),
    (lambda: tg.ones(5).chunk(0), ValueError, "chunk: chunks must be at least 1"),
    (lambda: tg.tensor(1.0).unbind(), ValueError, "unbind: a 0-d tensor"),
    (lambda: tg.ones(2, 3).narrow(1, 2, 2), IndexError, "narrow: start 2 and length 2 leave axis 1 of size 3"),
    (lambda: tg.ones(2, 3).select(1, 3), IndexError, "select: index 3 is out of range for axis 1 of size 3"),
    (lambda: tg.ones(2, 3).repeat(2), ValueError, "repeat: "),
    (lambda: tg.ones(2).tile(-1), ValueError, "tile: "),
    (lambda: tg.ones(3).repeat_interleave(ints(1, 2)), ValueError, "repeat_interleave: repeats"),
    (lambda: tg.ones(2, 2).roll((1, 2), 0), ValueError, "roll: got 2 shifts for 1 dims"),
    (lambda: tg.ones(2, 2).flip(0, 0), ValueError, "flip: dims .* twice"),
    (lambda: tg.ones(2, 2).flip(2), IndexError, "flip: dims 2"),
    (lambda: tg.ones(2).rot90(), ValueError, "rot90: "),
    (lambda: tg.meshgrid(tg.ones(2, 2)), ValueError, "meshgrid: tensor 0 has shape"),
    (lambda: tg.meshgrid(tg.ones(2), indexing="yx"), ValueError, 'meshgrid: indexing must be "ij" or "xy"'),
    (lambda: tg.pad(tg.ones(2, 2), (1, 1, 1)), ValueError, "pad: expected two sizes"),
    (lambda: tg.pad(tg.ones(2), (1, 1, 1, 1)), ValueError, "pad: expected two sizes"),
    (lambda: tg.pad(tg.ones(2, 2), (1, 1), "mirror"), ValueError, "pad: mode must be one of constant, reflect"),
    (lambda: tg.pad(tg.ones(2, 2), (2, 1), "reflect"), ValueError, "pad: mode 'reflect' adds at most 1 to axis 1 of size 2"),
    (lambda: tg.pad(tg.ones(2, 2), (3, 1), "circular"), ValueError, "pad: mode 'circular' adds at most 2"),
    (lambda: tg.pad(tg.ones(2), (-2, -1)), ValueError, "pad: sizes .* cut more"),
    (lambda: tg.pad(tg.ones(1, 1, 1, 1), (0,) * 8, "replicate"), ValueError, "pad: mode 'replicate' pads one, two or three"),
    (lambda: tg.ones(3).gather(0, ints(0, 3)), IndexError, "gather: `index` holds 3, .* axis 0 of size 3"),
    (lambda: tg.ones(3).gather(0, ints(-1)), IndexError, "gather: `index` holds -1"),
    (lambda: tg.ones(3).gather(0, tg.tensor([0.5])), TypeError, "gather: expected integers"),
    (lambda: tg.ones(3).gather(0, [0]), TypeError, "gather: expected a Tensor"),
    (lambda: tg.ones(2, 3).gather(0, ints(0)), ValueError, "gather: .*as many axes"),
    (lambda: tg.ones(2, 3).gather(0, ints(0, 0, 0, 0).reshape(1, 4)), ValueError, r"gather: .*axis 1; only dim 0"),
    (lambda: tg.ones(3).scatter(0, ints(3), tg.ones(1)), IndexError, "scatter: `index` holds 3"),
    (lambda: tg.ones(3).scatter(0, ints(0), tg.ones(1, dtype=tg.float64)), TypeError, "scatter: `src` has dtype float64"),
    (lambda: tg.ones(3).scatter_add(0, ints(0, 1), tg.ones(1)), ValueError, "scatter_add: `index` of shape"),
    (lambda: tg.ones(3).index_select(0, ints(3)), IndexError, "index_select: `index` holds 3"),
    (lambda: tg.ones(3).index_select(0, ints(0).reshape(1, 1)), ValueError, "index_select: .*one axis"),
    (
        lambda: tg.ones(3).index_add(0, ints(0), tg.ones(2)),
        ValueError,
        r"index_add: `source` has shape \(2,\), expected \(1,\)",
    ),
    (lambda: tg.ones(3).index_fill(0, ints(5), 1.0), IndexError, "index_fill: `index` holds 5"),
    (lambda: tg.ones(2, 3).take_along_dim(ints(0), 1), ValueError, "take_along_dim: "),
    (lambda: tg.ones(3).masked_select(tg.ones(3)), TypeError, "masked_select: expected a bool Tensor"),
    (lambda: tg.ones(3).masked_select(tg.tensor([True, False])), ValueError, "masked_select: mask of shape"),
    (
        lambda: tg.ones(3).masked_scatter(tg.tensor([True]), tg.ones(2)),
        ValueError,
        "masked_scatter: source has 2 elements for 3",
    ),
    (lambda: tg.ones(3).topk(4), ValueError, r"topk: k must lie in 0\.\.3"),
    (lambda: tg.ones(3).sort(1), IndexError, "sort: dim 1 is out of range"),
    (lambda: tg.one_hot(ints(-1)), ValueError, "one_hot: class indices must not be negative"),
    (lambda: tg.one_hot(ints(2), 2), ValueError, "one_hot: class 2 does not fit num_classes 2"),
    (lambda: tg.one_hot(tg.tensor([0.0])), TypeError, "one_hot: expected class indices"),
    (lambda: tg.one_hot(tg.zeros(0, dtype=tg.int64)), ValueError, "one_hot: an empty tensor"),
    (lambda: tg.unfold(tg.ones(1, 1, 3, 3), 4), ValueError, r"unfold: a window of kernel_size \(4, 4\)"),
    (lambda: tg.unfold(tg.ones(3, 3), 2), ValueError, "unfold: expected an image"),
    (lambda: tg.unfold(tg.ones(1, 3, 3), 2, stride=0), ValueError, "unfold: stride must be"),
    (lambda: tg.fold(tg.ones(1, 4, 3), (3, 3), 2), ValueError, r"fold: axis -1 .* must be 2 \* 2"),
    (lambda: tg.fold(tg.ones(1, 5, 4), (3, 3), 2), ValueError, "fold: axis -2"),
    (lambda: tg.ones(5).unfold(0, 6, 1), ValueError, "unfold: size 6 does not fit axis 0 of size 5"),
    (lambda: tg.ones(5).unfold(0, 2, 0), ValueError, "unfold: step must be at least 1"),
]


@pytest.mark.parametrize(
    ("call", "kind", "words"), ERRORS, ids=[words.split(":")[0] + str(i) for i, (_, _, words) in enumerate(ERRORS)]
)
def test_errors_name_the_operator_and_what_is_wrong(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def test_shapes_with_zero_or_no_axes():
    empty, scalar = tg.zeros(0, 3), tg.tensor(5.0)
    assert empty.reshape(-1).shape == (0,) and empty.view(3, 0).shape == (3, 0) and empty.flatten().shape == (0,)
    assert empty.expand(2, 0, 3).shape == (2, 0, 3) and tg.ones(1, 3).expand(0, 3).shape == (0, 3)
    assert scalar.flatten().shape == (1,) and scalar.expand(2, 2).tolist() == [[5, 5], [5, 5]] and scalar.permute().shape == ()
    assert scalar.transpose(0, -1).item() == 5 and scalar.flip(0).item() == 5 and scalar.roll(1).item() == 5
    assert [p.shape for p in empty.split(2)] == [(0, 3)] and [p.shape for p in empty.chunk(2)] == [(0, 3), (0, 3)]
    assert (
        scalar.gather(0, tg.tensor(0)).item() == 5 and scalar.sort().indices.item() == 0 and scalar.topk(1).values.item() == 5
    )
    assert scalar.nonzero().shape == (1, 0) and [i.tolist() for i in scalar.nonzero(as_tuple=True)] == [[0]]
    assert (
        empty.sort().values.shape == (0, 3) and empty.unique().shape == (0,) and tg.pad(tg.zeros(0), (1, 1)).tolist() == [0, 0]
    )
    assert scalar.repeat(2, 1).tolist() == [[5], [5]] and tg.unfold(tg.ones(0, 1, 3, 3), 2).shape == (0, 4, 4)
    assert tg.ones(2, 3).gather(1, tg.zeros(0, 0, dtype=tg.int64)).shape == (0, 0)


def test_sizes_may_be_any_integers():
    x = tg.ones(2, 3)
    for shape in ([3, 2], (3, -1), (np.int64(3), tg.tensor(2))):
        assert x.reshape(shape).shape == (3, 2) and x.reshape(*shape).shape == (3, 2) and x.view(*shape).shape == (3, 2)
    assert x.expand([4, -1, 3]).shape == (4, 2, 3) and x.permute([1, 0]).shape == (3, 2)


def test_results_that_are_no_views_have_memory_of_their_own():
    x = tg.arange(6.0).reshape(2, 3)
    for y in (
        x.clone(), tg.cat([x]), tg.stack([x]), x.flip(()), x.rot90(0), x.roll(0), x.repeat(1, 1), x.tile(1), tg.pad(x, (0, 0)),
        tg.pad(x, (0, 0), "reflect"), x.index_select(0, ints(0, 1)), x.gather(0, ints(0, 0, 0).reshape(1, 3)), x.t().reshape(6),
        x[ints(0, 1)], x.sort().values, tg.unfold(x.reshape(1, 2, 3), 1), x.masked_select(x >= 0), x.unique(),
        x.t().contiguous(),
    ):  # fmt: skip
        assert not np.shares_memory(x.numpy(), y.numpy())
        y.zero_()
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert x.contiguous() is x


def test_cat_promotes_and_skips_nothing():
    assert tg.cat([tg.ones(2), tg.ones(1, dtype=tg.float64), ints(3)]).dtype == tg.float64
    assert tg.cat([ints(1), tg.tensor([True])]).tolist() == [1, 1]
    x = tg.ones(2, 3, requires_grad=True)
    assert tg.cat([tg.zeros(0), x]).shape == (2, 3)
    half = tg.ones(2, dtype=tg.float16, requires_grad=True)
    tg.cat([half, tg.ones(1)]).sum().backward()
    assert half.grad.dtype == tg.float16 and half.grad.tolist() == [1, 1]
    assert tg.concat((x, x), dim=-1).shape == (2, 6)


def test_the_same_tensor_may_be_joined_twice():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (tg.cat([x, x]) * tg.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert x.grad.tolist() == [101, 1010]
    x.grad = None
    (tg.stack([x, x], 1) * tg.tensor([[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    assert x.grad.tolist() == [11, 1100]


def test_pieces_are_as_long_as_pytorch_makes_them():
    assert [p.shape[0] for p in tg.ones(7).split(3)] == [3, 3, 1]
    assert [p.shape[0] for p in tg.ones(5).chunk(4)] == [2, 2, 1]
    assert [p.tolist() for p in tg.arange(4).split([1, 0, 3])] == [[0], [], [1, 2, 3]]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("constant", [0, 0, 1, 2, 3, 0]),
        ("reflect", [3, 2, 1, 2, 3, 2]),
        ("replicate", [1, 1, 1, 2, 3, 3]),
        ("circular", [2, 3, 1, 2, 3, 1]),
    ],
)
def test_pad_modes(mode, expected):
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = tg.pad(x, (2, 1), mode)
    assert y.tolist() == expected
    upstream = np.arange(1.0, 7)
    y.backward(tg.tensor(upstream, dtype=tg.float32))
    assert x.grad.tolist() == [upstream[np.array(expected) == v].sum() for v in (1, 2, 3)]


def test_pad_starts_with_the_last_axis_and_negative_sizes_crop():
    x = tg.arange(6).reshape(2, 3)
    assert tg.pad(x, (1, 0), value=9).tolist() == [[9, 0, 1, 2], [9, 3, 4, 5]]
    assert tg.pad(x, (0, 0, 1, 0)).tolist() == [[0, 0, 0], [0, 1, 2], [3, 4, 5]]
    assert tg.pad(x, (-1, 0, 0, -1)).tolist() == [[1, 2]]
    assert tg.pad(x, (-1, 1), "reflect").tolist() == [[1, 2, 1], [4, 5, 4]]


def test_duplicates_add_up_in_scatter_add_and_the_last_stays_in_scatter():
    src = tg.tensor([1.0, 2.0, 4.0], requires_grad=True)
    index = ints(1, 1, 0)
    added = tg.zeros(2).scatter_add(0, index, src)
    assert added.tolist() == [4, 3] and tg.zeros(2).index_add(0, index, src.detach(), alpha=2).tolist() == [8, 6]
    written = tg.zeros(2).scatter(0, index, src)
    assert written.tolist() == [4, 2]
    (g,) = tg.autograd.grad(added, src, tg.tensor([10.0, 1.0]))
    assert g.tolist() == [1, 1, 10]
    (g,) = tg.autograd.grad(written, src, tg.tensor([10.0, 1.0]))
    assert g.tolist() == [0, 1, 10]


def test_many_duplicates_are_summed_exactly():
    rng = np.random.default_rng(0)
    index, source = rng.integers(0, 5, 2000), rng.integers(-9, 10, (2000, 3)).astype(np.float32)
    expected = np.zeros((5, 3), np.float32)
    np.add.at(expected, index, source)
    np.testing.assert_array_equal(tg.zeros(5, 3).index_add(0, tg.tensor(index), tg.tensor(source)).numpy(), expected)
    x = tg.zeros(5, 3, requires_grad=True)
    x[tg.tensor(index)].backward(tg.tensor(source))
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_in_place_forms_along_an_axis():
    x = tg.zeros(3)
    assert x.scatter_(0, ints(0), 1.0) is x and x.scatter_add_(0, ints(0, 1), tg.ones(2)) is x
    assert x.index_add_(0, ints(2), tg.ones(1), alpha=5) is x and x.tolist() == [2, 1, 5]
    assert x.index_fill_(0, ints(1), 7).index_copy_(0, ints(0), tg.ones(1)).tolist() == [1, 7, 5]
    assert x.masked_scatter_(tg.tensor([True, False, True]), tg.tensor([8.0, 9.0, 10.0])).tolist() == [8, 7, 9]


def test_sort_is_stable_both_ways_and_puts_nan_where_pytorch_does():
    x = tg.tensor([1, 0, 1, 0])
    assert x.argsort().tolist() == [1, 3, 0, 2] and x.argsort(descending=True, stable=True).tolist() == [0, 2, 1, 3]
    y = tg.tensor([3.0, float("nan"), 1.0])
    assert y.sort().indices.tolist() == [2, 0, 1] and y.sort(descending=True).indices.tolist() == [1, 0, 2]
    values, indices = tg.tensor([1, 3, 3, 2]).topk(3)
    assert values.tolist() == [3, 3, 2] and indices.tolist() == [1, 2, 3]
    assert tg.tensor([1, 3, 3, 2]).topk(2, largest=False).values.tolist() == [1, 2]


def test_the_gradient_of_sort_and_topk_goes_where_the_values_stood():
    x = tg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    (x.sort().values * tg.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [100, 1, 10]
    x.grad = None
    x.topk(2).values.backward(tg.tensor([5.0, 7.0]))
    assert x.grad.tolist() == [5, 0, 7]


def test_unique_returns_what_is_asked_for():
    x = tg.tensor([[2, 1], [2, 3]])
    assert x.unique().tolist() == [1, 2, 3]
    values, inverse, counts = x.unique(return_inverse=True, return_counts=True)
    assert values[inverse].tolist() == x.tolist() and counts.tolist() == [1, 2, 1]
    rows, counts = tg.tensor([[1, 2], [0, 5], [1, 2]]).unique(return_counts=True, dim=0)
    assert rows.tolist() == [[0, 5], [1, 2]] and counts.tolist() == [1, 2]
    assert not tg.ones(2, requires_grad=True).unique().requires_grad


def test_positions_of_what_is_not_zero():
    x = tg.tensor([[0.0, 2.0], [3.0, 0.0]])
    assert x.nonzero().tolist() == [[0, 1], [1, 0]] and x.nonzero().dtype == tg.int64
    assert x[x.nonzero(as_tuple=True)].tolist() == [2, 3]
    assert x.masked_select(tg.tensor([True, False])).tolist() == [0, 3]


def test_one_hot_and_meshgrid():
    assert tg.one_hot(ints(1, 0), 3).tolist() == [[0, 1, 0], [1, 0, 0]] and tg.one_hot(ints(2)).shape == (1, 3)
    rows, columns = tg.meshgrid(tg.arange(2), tg.arange(3))
    assert rows.tolist() == [[0, 0, 0], [1, 1, 1]] and columns.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert tg.meshgrid(tg.arange(2), tg.arange(3), indexing="xy")[0].tolist() == [[0, 1], [0, 1], [0, 1]]


def test_patches_of_an_image():
    image = tg.arange(9.0).reshape(1, 1, 3, 3)
    columns = tg.unfold(image, 2)
    assert columns[0].T.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    # Each pixel comes back as often as windows cover it.
    assert (tg.fold(columns, 3, 2) / tg.fold(tg.ones_like(columns), (3, 3), (2, 2))).tolist() == image.tolist()
    assert tg.unfold(image, 3, padding=1, stride=2).shape == (1, 9, 4) and tg.unfold(
        image[0], (1, 2), dilation=(1, 2)
    ).shape == (2, 3)
    windows = tg.arange(5).unfold(0, 3, 2)
    assert windows.tolist() == [[0, 1, 2], [2, 3, 4]]


def test_a_convolution_by_patches_is_a_convolution():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    image, weight = rng.normal(size=(2, 3, 7, 6)), rng.normal(size=(4, 3, 3, 2))
    columns = tg.unfold(tg.tensor(image), (3, 2), dilation=(2, 1), padding=(1, 2), stride=(1, 3))
    ours = tg.tensor(weight).reshape(4, -1) @ columns
    theirs = torch.nn.functional.conv2d(
        torch.tensor(image), torch.tensor(weight), dilation=(2, 1), padding=(1, 2), stride=(1, 3)
    )
    np.testing.assert_allclose(ours.numpy(), theirs.reshape(2, 4, -1).numpy(), rtol=1e-12, atol=1e-12)


def test_conversions_and_new_tensors():
    x = tg.tensor([1.7, 0.0, -2.5])
    names = ["float", "double", "half", "long", "int", "short", "char", "bool"]
    dtypes = [tg.float32, tg.float64, tg.float16, tg.int64, tg.int32, tg.int16, tg.int8, tg.bool_]
    assert [getattr(x, n)().dtype for n in names] == dtypes and x.float() is x and tg.ones(1).byte().dtype == tg.uint8
    assert x.long().tolist() == [1, 0, -2] and x.bool().tolist() == [True, False, True]
    assert x.type_as(ints(1)).dtype == tg.int64 and x.reshape_as(tg.ones(3, 1)).shape == x.view_as(tg.ones(3, 1)).shape == (
        3,
        1,
    )
    d = x.double()
    assert (
        d.new_zeros(2, 3).dtype == tg.float64 and d.new_ones((2,)).tolist() == [1, 1] and d.new_full((2,), 3).tolist() == [3, 3]
    )
    assert (
        d.new_empty(0).dtype == tg.float64
        and d.new_tensor([1, 2]).dtype == tg.float64
        and x.new_zeros(1, dtype=tg.int8).dtype == tg.int8
    )
    w = tg.tensor([1.0], requires_grad=True)
    (w.double() * 3).sum().backward()
    assert w.grad.dtype == tg.float32 and w.grad.item() == 3
