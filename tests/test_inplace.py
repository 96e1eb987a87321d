"""In-place writes: recorded, seen through views, and refused before anything is lost."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_cv as tg


def leaf(*values: float) -> tg.Tensor:
    return tg.tensor(np.array(values), requires_grad=True)


def test_writing_to_saved_memory_raises_before_the_write_and_names_the_operator() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    out = y.exp()
    product = y * y
    for target, write, saver in ((out, lambda t: t.add_(1), "exp"), (y, lambda t: t.mul_(2), "mul"),
                                 (y, lambda t: t.__setitem__(0, 9.0), "mul")):  # fmt: skip
        before = target.detach().numpy().copy()
        with pytest.raises(RuntimeError, match=rf"saved by {saver} and is still needed"):
            write(target)
        assert np.array_equal(target.detach().numpy(), before)
    (out.sum() + product.sum()).backward()
    y.mul_(2)
    out.add_(1)
    assert np.allclose(x.grad.numpy(), [np.exp(1) + 2, np.exp(2) + 4])


def test_writing_through_a_view_or_an_alias_is_noticed_too() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = y * y
    for alias in (y.view(2, 1), y.detach(), y[0:1]):
        with pytest.raises(RuntimeError, match="saved by mul"):
            alias.add_(1)
    z.sum().backward()


def test_a_write_behind_the_engines_back_is_found_by_the_version() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = y * y
    y._storage.version += 1  # what a write that skipped the check would leave
    with pytest.raises(
        RuntimeError, match=r"mul: its saved `\w+` .*changed by an in-place write \(version 0 when saved, 1 now\)"
    ):
        z.sum().backward()
    assert x.grad is None


def test_in_place_operators_are_recorded() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    y.mul_(3).add_(1)
    y[0] = 5.0
    (y * tg.tensor([10.0, 100.0], dtype=tg.float64)).sum().backward()
    assert y.tolist() == [5.0, 7.0] and x.grad.tolist() == [0.0, 300.0]


def test_in_place_on_a_view_changes_the_history_of_its_base() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 1
    row = y[1:]
    row.mul_(10)
    assert y.tolist() == [1.0, 20.0, 30.0]
    (y * y).sum().backward()
    assert x.grad.tolist() == [2.0, 400.0, 600.0]


def test_in_place_on_the_base_changes_the_history_of_its_views() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    view = y[:1]
    y.mul_(4)
    view.sum().backward()
    assert x.grad.tolist() == [4.0, 0.0]


def test_leaves_cannot_be_written_while_recording() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="add_: a leaf tensor that requires grad"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="view of a leaf"):
        x.view(1, 1).add_(1)
    with tg.no_grad():
        x.add_(1)
    assert x.tolist() == [2.0] and x.requires_grad and x.is_leaf


def test_expanded_tensors_cannot_be_written() -> None:
    with pytest.raises(RuntimeError, match="expanded"):
        tg.ones(1, 3).expand(2, 3).add_(1)
