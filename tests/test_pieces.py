"""split, chunk and unbind: one node for all pieces, which are views like any other."""

from __future__ import annotations

import numpy as np
import pytest
from functional_comparison import compare

import tinygrad_cv as tg

CUTS = {
    "split": lambda x: x.split(2, 1),
    "sections": lambda x: x.split([1, 0, 4], 1),
    "chunk": lambda x: x.chunk(2, -1),
    "unbind": lambda x: x.unbind(1),
}


@pytest.mark.parametrize("used", ["all", "some"])
@pytest.mark.parametrize("cut", CUTS)
def test_pieces_and_their_derivatives_agree_with_pytorch(cut, used):
    def function(x):
        pieces = CUTS[cut](x * x)
        return sum(((k + 1) * p * p * p).sum() for k, p in enumerate(pieces) if used == "all" or k != 1)

    compare(function, function, np.random.default_rng(0).standard_normal((3, 5, 2)))


@pytest.mark.parametrize("cut", CUTS)
def test_all_pieces_come_from_one_node(cut):
    x = tg.ones(3, 5, 2, requires_grad=True)
    with tg.graph.capture() as recording:
        out = sum(p.sum() for p in CUTS[cut](x))
    assert sum(n.op not in ("sum", "add") for n in recording.graph(out) if n.kind == "operator") == 1
    (gradient,) = tg.autograd.grad(sum((p * p).sum() for p in CUTS[cut](x)), [x], create_graph=True)
    assert not {"narrow", "select", "getitem_backward"} & {n.op for n in tg.graph.trace(gradient)}


@pytest.mark.parametrize("cut", CUTS)
def test_pieces_share_memory_and_its_version(cut):
    x = tg.arange(30.0).reshape(3, 5, 2)
    first = CUTS[cut](x)[0]
    before = first._version
    x += 1
    assert np.shares_memory(first.numpy(), x.numpy()) and first._version == before + 1
    assert first.reshape(-1)[0].item() == 1


@pytest.mark.parametrize("cut", CUTS)
def test_a_write_into_a_piece_changes_the_base_and_the_gradient(cut):
    values = np.random.default_rng(1).standard_normal((3, 5, 2))
    leaf = tg.tensor(values, requires_grad=True)
    base = leaf * 1
    pieces = CUTS[cut](base)
    pieces[0].mul_(3)
    (base.sum() + pieces[-1].sum()).backward()
    expected = np.ones_like(values)
    CUTS[cut](tg.from_numpy(expected))[0].mul_(3)
    CUTS[cut](tg.from_numpy(expected))[-1].add_(1)
    np.testing.assert_array_equal(leaf.grad.numpy(), expected)


@pytest.mark.parametrize("cut", CUTS)
def test_a_write_to_the_base_reaches_pieces_cut_before_it(cut):
    leaf = tg.ones(3, 5, 2, requires_grad=True)
    base = leaf * 1
    pieces = CUTS[cut](base)
    base.mul_(2)
    sum(p.sum() for p in pieces).backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), np.full((3, 5, 2), 2))


def test_memory_that_a_piece_has_saved_cannot_be_written():
    x = tg.ones(4, requires_grad=True) * 1
    first, second = x.chunk(2)
    kept = first * second
    with pytest.raises(RuntimeError, match="saved by mul"):
        x.add_(1)
    kept.sum().backward()


def test_hooks_and_kept_gradients_belong_to_their_piece():
    x = tg.ones(4, requires_grad=True)
    first, second = x.split(2)
    second.retain_grad()
    first.register_hook(lambda g: g * 10)
    (first.sum() + 3 * second.sum()).backward()
    assert x.grad.tolist() == [10, 10, 3, 3] and second.grad.tolist() == [3, 3] and first.grad is None


def test_pieces_made_without_recording_have_no_history():
    x = tg.ones(4, requires_grad=True)
    with tg.no_grad():
        assert not any(p.requires_grad for p in x.split(2))
    with tg.inference_mode():
        pieces = x.unbind(0)
    with pytest.raises(RuntimeError, match="inference_mode"):
        pieces[0] * x
    assert tg.zeros(0, 3).unbind(0) == ()


@pytest.mark.parametrize("join", [tg.cat, tg.stack])
def test_joining_many_tensors_is_cut_by_one_node_in_backward(join):
    leaves = [tg.ones(2, requires_grad=True) for _ in range(5)]
    grads = tg.autograd.grad((join(leaves) ** 3).sum(), leaves, create_graph=True)
    assert len({g.grad_fn for g in grads}) == 1
