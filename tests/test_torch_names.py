"""Calls spelled as PyTorch's documentation spells them: keywords of the shape operators, other names of operators."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_cv as tg

torch = pytest.importorskip("torch")

# Calls of `x`, of shape (2, 3, 1), and of `p`, the package.
CALLS = [
    "p.flip(x, dims=(0,))", "x.flip(dims=(0, 1))", "x.flip(dims=[0])", "p.flip(input=x, dims=(0,))",
    "p.permute(x, dims=(1, 0, 2))", "x.permute(dims=(2, 0, 1))", "p.permute(input=x, dims=[2, 1, 0])",
    "p.tile(x, dims=(2,))", "x.tile(dims=(2, 1, 2, 1))", "p.reshape(x, shape=(6,))", "x.reshape(shape=(3, -1))",
    "p.reshape(input=x, shape=[6])", "x.view(size=(6,))", "x.view(size=[3, -1])", "x.view(dtype=p.int32)",
    "x.expand(size=(2, 3, 4))", "x.expand(size=[5, -1, -1, 2])", "x.repeat(repeats=(1, 2, 1))", "x.repeat(repeats=[2, 1, 1, 2])",
    "p.broadcast_to(x, size=(2, 3, 2))", "x.broadcast_to(size=(2, 3, 2))", "p.broadcast_to(x, (2, 3, 2))",
    "x.split(split_size=1)", "x.split(split_size=2, dim=1)", "x.split(split_size=[1, 2], dim=1)",
    "p.split(x, split_size_or_sections=1)", "p.split(tensor=x, split_size_or_sections=2, dim=1)",
    "p.chunk(x, chunks=2, dim=1)", "x.unbind(dim=1)", "p.squeeze(x, dim=2)", "x.squeeze(dim=(0, 2))", "x.unsqueeze(dim=-1)",
    "p.movedim(x, source=0, destination=2)", "x.movedim(source=(0, 1), destination=(1, 2))",
    "p.moveaxis(x, source=0, destination=-1)", "x.moveaxis(0, 1)", "p.transpose(x, dim0=0, dim1=1)",
    "p.swapaxes(x, axis0=0, axis1=1)", "x.swapaxes(axis0=0, axis1=2)", "p.swapdims(x, dim0=0, dim1=1)", "x.swapdims(0, 2)",
    "p.rot90(x, k=1, dims=(0, 1))", "x.rot90(dims=[1, 2])", "p.roll(x, shifts=1)", "x.roll(shifts=(1, 2), dims=(0, 1))",
    "p.flatten(x, start_dim=1, end_dim=2)", "x.unflatten(dim=1, sizes=(3, 1))", "p.narrow(x, dim=1, start=1, length=2)",
    "p.select(x, dim=1, index=0)", "x.sum_to_size(size=(1, 3, 1))", "p.repeat_interleave(x, repeats=2, dim=1)",
    "p.cat(tensors=(x, x), dim=1)", "p.concat((x, x), dim=1)", "p.concatenate((x, x), axis=1)", "p.stack(tensors=[x, x], dim=-1)",
    "p.hstack((x, x))", "p.vstack((x, x))", "p.row_stack((x, x))", "p.dstack((x, x))", "p.column_stack((x[0, :, 0], x[0]))",
    "p.column_stack((x[0, :, 0], x[1, :, 0]))", "p.dstack((x[0, :, 0], x[1, :, 0]))", "p.meshgrid(x[0, :, 0], x[:, 0, 0], indexing='xy')",
    "x.sum(axis=1, keepdims=True)", "p.tensordot(x, x, dims=([1], [1]))",
    "p.det(input=x[:, :2, 0])", "p.det(x[:, :2, 0])", "x[:, :2, 0].det()", "p.inverse(input=x[:, :2, 0])", "x[:, :2, 0].inverse()",
    "p.slogdet(x[:, :2, 0])", "x[:, :2, 0].slogdet()", "x[:, 1:, 0].logdet()", "p.logdet(input=x[:, 1:, 0])",
    "p.ger(x[0, :, 0], x[:, 0, 0])", "x[0, :, 0].ger(vec2=x[:, 0, 0])",
]  # fmt: skip


def _agree(mine, theirs) -> None:
    if isinstance(theirs, (tuple, list)):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            _agree(a, b)
        return
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)
    assert f"torch.{mine.dtype}" == str(theirs.dtype)


def _both(call: str, values: np.ndarray):
    return [eval(call, {"p": p, "x": p.tensor(values)}) for p in (tg, torch)]


@pytest.mark.parametrize("call", CALLS)
def test_documented_keywords_mean_what_they_mean_in_pytorch(call):
    _agree(*_both(call, np.array([[[1], [-2], [5]], [[3], [0.5], [4]]], np.float32)))


UNARY = {
    "absolute": 0, "negative": 0, "fix": 0, "arccos": 0, "arcsin": 0, "arctan": 0, "arcsinh": 0, "arctanh": 0, "arccosh": 2,
}  # fmt: skip
BINARY = [
    "multiply", "subtract", "divide", "true_divide", "arctan2", "greater", "greater_equal", "less", "less_equal", "not_equal",
]  # fmt: skip


@pytest.mark.parametrize("name", [*UNARY, *BINARY, "clip"])
def test_aliases_are_functions_methods_and_in_place_forms(name):
    values = np.array([0.25, -0.5, 0.75], np.float32) + UNARY.get(name, 0)
    rest = "x * x" if name in BINARY else "-0.3, 0.5" if name == "clip" else ""
    for call in (f"p.{name}(x, {rest})", f"x.{name}({rest})", f"x.clone().{name}_({rest})"):
        _agree(*_both(call, values))
    assert name in dir(tg) and getattr(tg, name) is tg.ops.get(name).function


def test_aliases_are_listed_beside_the_operator_they_name():
    listed = {o["name"]: o["aliases"] for o in tg.ops.list_ops()}
    assert listed["div"] == ("divide", "true_divide") and listed["linalg.det"] == ("det",) and listed["exp"] == ()
    assert "multiply" not in listed and tg.ops.get("multiply") is tg.ops.get("mul")


def test_wrong_keywords_are_named():
    x = tg.ones(2, 3)
    for call, message in (
        (lambda: x.reshape(2, shape=(6,)), r"reshape\(\) got 'shape' twice, as \(2,\) and as shape=\(6,\)"),
        (lambda: x.sum(dim=0, axis=1), r"sum\(\) got 'dim' twice, as 0 and as axis=1"),
        (lambda: x.flip(axes=(0,)), r"flip\(\) got an unexpected keyword argument 'axes'"),
        (lambda: x.split(), r"split\(\) missing a required argument: 'split_size_or_sections'"),
        (lambda: tg.det(), r"linalg.det\(\) missing a required argument: 'A'"),
        (lambda: x.reshape(6, out=x), r"reshape: results are always new tensors, there is no out="),
    ):
        with pytest.raises(TypeError, match=message):
            call()
