"""Tensors and the world outside: NumPy, DLPack, copies, pickling, printing."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tinygrad_cv as tg


def leaf(*values: float) -> tg.Tensor:
    return tg.tensor(np.array(values), requires_grad=True)


def test_from_numpy_shares_memory_both_ways_and_tensor_copies() -> None:
    array = np.zeros(3)
    shared, copied = tg.from_numpy(array), tg.tensor(array)
    array[0] = 1
    shared[1] = 2.0
    assert array.tolist() == [1.0, 2.0, 0.0] and copied.tolist() == [0.0, 0.0, 0.0]
    assert shared.numpy() is array or np.shares_memory(shared.numpy(), array)
    assert shared.data_ptr() == array.ctypes.data and shared[1:].data_ptr() == array.ctypes.data + 8


def test_numpy_of_a_tensor_with_history_asks_for_detach() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match=r"detach\(\)\.numpy\(\)"):
        x.numpy()
    assert x.detach().numpy().tolist() == [1.0] and x.numpy(force=True).tolist() == [1.0]


def test_dlpack_both_ways() -> None:
    x = tg.arange(6, dtype=tg.float32).reshape(2, 3)
    array = np.from_dlpack(x)
    assert array.tolist() == x.tolist() and np.shares_memory(array, x.numpy())
    back = tg.from_dlpack(np.arange(4.0))
    assert back.tolist() == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(BufferError, match="requires grad"):
        np.from_dlpack(leaf(1.0))


def test_dlpack_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x = tg.arange(3, dtype=tg.float32)
    there = torch.from_dlpack(x)
    there[0] = 9
    assert x.tolist() == [9.0, 1.0, 2.0]
    assert tg.from_dlpack(torch.tensor([[1, 2]])).tolist() == [[1, 2]]


def test_pickling_is_refused() -> None:
    with pytest.raises(TypeError, match=r"tg\.save"):
        pickle.dumps(tg.ones(2))


def test_deepcopy() -> None:
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    twin = copy.deepcopy(x)
    assert twin.tolist() == [1.0, 2.0] and twin.requires_grad and twin.is_leaf and twin.grad.tolist() == [2.0, 2.0]
    assert not np.shares_memory(twin.detach().numpy(), x.detach().numpy())
    pair = copy.deepcopy([x, x])
    assert pair[0] is pair[1]
    with pytest.raises(RuntimeError, match="only leaf tensors"):
        copy.deepcopy(x * 2)


def test_detach_shares_memory_and_has_no_history() -> None:
    x = leaf(1.0)
    y = (x * 2).detach()
    assert not y.requires_grad and y.grad_fn is None and y.is_leaf
    assert np.shares_memory(x.detach().numpy(), x.detach().numpy())


def test_printing() -> None:
    assert repr(tg.tensor([1.0, -2.5])).startswith("tensor([ 1.") and "-2.5" in repr(tg.tensor([1.0, -2.5]))
    assert repr(tg.tensor([1, 2])) == "tensor([1, 2])"
    assert "True" in repr(tg.tensor([True]))
    assert "dtype=float64" in repr(tg.ones(1, dtype=tg.float64))
    assert "requires_grad=True" in repr(leaf(1.0)) and "grad_fn=<" in repr(leaf(1.0) * 2)
    assert "..." in repr(tg.zeros(100, 100))
    assert repr(tg.zeros(0)) == "tensor([])" and repr(tg.tensor(3.0)) == "tensor(3.)"
    assert f"{tg.tensor(3.14159):.2f}" == "3.14"
