"""Dtypes and integers where PyTorch has rules of its own: scaled sums, products of small integers, differences of bools."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_cv as tg

torch = pytest.importorskip("torch")

VALUES = {
    "u8": [1, 2, 250],
    "i8": [1, 2, 3],
    "i32": [1, 2, 3],
    "i64": [1, 2, 3],
    "f": [1.0, 2.0, 3.0],
    "b": [True, False, True],
}
DTYPES = {"u8": "uint8", "i8": "int8", "i32": "int32", "i64": "int64", "f": "float32", "b": "bool"}

SAME = [
    "p.addcmul(f, i64, i64)", "p.addcmul(i64, i64, f)", "p.addcmul(u8, u8, u8)", "p.addcmul(u8, u8, u8, value=2)",
    "p.addcmul(u8, u8, u8, value=-2)", "p.addcmul(i8, i8, i8)", "p.addcmul(f, f.double()[0], f)", "p.addcdiv(u8, u8, f)",
    "p.addcdiv(i64, f, i64)", "p.addbmm(u8[:1].view(1, 1), u8.view(3, 1, 1), u8.view(3, 1, 1))",
    "p.addbmm(i8[:1].view(1, 1), i8.view(3, 1, 1), i8.view(3, 1, 1))", "p.addbmm(i32[:1].view(1, 1), i32.view(3, 1, 1), i32.view(3, 1, 1))",
    "p.addmm(u8[:1], u8.view(1, 3), u8.view(3, 1), alpha=-2)", "p.addmv(i8[:1], i8.view(1, 3), i8, alpha=2, beta=3)",
    "p.baddbmm(u8.view(3, 1, 1), u8.view(3, 1, 1), u8.view(3, 1, 1), beta=-1)",
    "b.sum_to_size(1)", "b.sum_to_size(3)", "u8.sum_to_size(1)", "i32.sum_to_size(1)", "i32.sum_to_size(3)", "f.sum_to_size(1)",
    "p.add(u8, u8, alpha=-3)", "p.sub(u8, u8, alpha=-3)", "p.add(i8, i8, alpha=-3)", "p.add(b, b)", "p.add(b, b, alpha=2)",
    "p.add(b, b, alpha=0)", "p.add(i64, b, alpha=2)", "p.index_add(u8, 0, p.tensor([0]), u8[:1], alpha=-3)",
    "p.index_add(b[0], 0, p.tensor(0), b[0])", "p.index_add(b, 0, p.tensor([1]), b[:1], alpha=2)",
    "p.var(f, dim=None, correction=None)", "p.std(f, correction=None)", "p.var_mean(f, dim=0, correction=None)[0]",
    "p.take_along_dim(i64, p.tensor([-1, 0, -3]), 0)", "p.maximum(i64, f[1])",
]  # fmt: skip


def _operands(package):
    dtypes = {name: getattr(package, dtype) for name, dtype in DTYPES.items()}
    return {"p": package, **{name: package.tensor(VALUES[name], dtype=dtypes[name]) for name in VALUES}}


@pytest.mark.parametrize("call", SAME)
def test_values_and_dtypes_are_pytorchs(call):
    ours, theirs = eval(call, _operands(tg)), eval(call, _operands(torch))
    assert f"torch.{ours.dtype}" == str(theirs.dtype)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)


REFUSED = [
    ("p.addcmul(f, 2.5, 2.5)", TypeError, "addcmul: expected a Tensor for `tensor1`, got float"),
    ("p.addcmul(i64, i64, 2)", TypeError, "addcmul: expected a Tensor for `tensor2`, got int"),
    ("p.addcdiv(f, 2.0, f)", TypeError, "addcdiv: expected a Tensor for `tensor1`, got float"),
    ("p.addcdiv(u8, u8, u8)", TypeError, "addcdiv: expected floating tensors, got uint8 and uint8"),
    ("p.addcdiv(f, i8, i8)", TypeError, "addcdiv: expected floating tensors"),
    ("p.addcmul(u8, u8, u8, value=300)", ValueError, r"addcmul: value=300 does not fit uint8, expected -255\.\.255"),
    ("p.sub(u8, u8, alpha=300)", ValueError, "sub: alpha=300 does not fit uint8"),
    ("p.add(u8, u8, alpha=2.5)", TypeError, "add: alpha=2.5 must be an integer when the tensors are integers"),
    ("f - b", TypeError, "sub: not defined for bools"),
    ("b - f", TypeError, "sub: not defined for bools"),
    ("b - 1", TypeError, "sub: not defined for bools"),
    ("1.5 - b", TypeError, "sub: not defined for bools"),
    ("i64 - True", TypeError, "sub: not defined for bools"),
    ("f.clone().sub_(b)", TypeError, "sub: not defined for bools"),
    ("p.take_along_dim(i64, p.tensor([-1]))", IndexError, "gather: `index` holds -1"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_calls_that_pytorch_refuses_raise_an_error_that_names_the_operator(call, error, message):
    with pytest.raises((TypeError, RuntimeError)):
        eval(call, _operands(torch))
    with pytest.raises(error, match=f"^{message}"):
        eval(call, _operands(tg))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("p.addmv(i64[:1], i64.view(1, 3), i64, alpha=2.5)", TypeError, "addmv: alpha=2.5 must be an integer"),
        (
            "p.baddbmm(i64.view(3, 1, 1), i64.view(3, 1, 1), i64.view(3, 1, 1), beta=2.5)",
            TypeError,
            "baddbmm: beta=2.5 must be",
        ),
        ("p.index_add(i64, 0, p.tensor([0]), i64[:1], alpha=2.5)", TypeError, "index_add: alpha=2.5 must be an integer"),
        (
            "p.take_along_dim(i64, p.tensor([-4]), 0)",
            IndexError,
            "take_along_dim: `indices` holds -4, which is out of range for axis 0",
        ),
    ],
)
def test_calls_that_are_refused_here_alone_say_so(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        eval(call, _operands(tg))
