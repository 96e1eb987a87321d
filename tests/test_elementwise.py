"""Arithmetic, pointwise functions, comparisons and selection: against PyTorch, and what a user relies on."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest
from torch_comparison import compare_with_torch, reports_to, torch_function

import tinygrad_cv as tg
from tinygrad_cv.domain import NumpyDraw

ARITHMETIC = (
    "add sub mul div floor_divide remainder fmod pow neg positive abs sign reciprocal square addcmul addcdiv "
    "where masked_fill maximum minimum clamp clamp_min clamp_max lerp hypot logaddexp copysign nan_to_num"
).split()
POINTWISE = (
    "sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh "
    "erf erfc sigmoid logit floor ceil round trunc frac"
).split()
COMPARISON = (
    "eq ne lt le gt ge isnan isinf isfinite logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor "
    "bitwise_not bitwise_left_shift bitwise_right_shift isclose allclose equal"
).split()
BINARY = (
    "add sub mul div remainder fmod pow maximum minimum hypot logaddexp atan2 eq ne lt le gt ge "
    "logical_and logical_or logical_xor"
).split()
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 6.0, 100.0, -1e30, 710.0, math.inf, -math.inf, math.nan)

# What a scalar expression may call, one element at a time: NumPy's functions and the C library's.
NUMPY_NAMES = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh sqrt abs floor ceil trunc rint minimum maximum "
    "copysign fmod hypot isnan isinf isfinite"
)
LIBRARY = {
    **{name: getattr(np, name) for name in NUMPY_NAMES.split()},
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "erf": math.erf, "erfc": math.erfc,
    "normal_cdf": lambda x: math.erfc(-x / math.sqrt(2)) / 2,
    "normal_pdf": lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi), "rsqrt": lambda x: 1 / np.sqrt(x),
    "pow": lambda x, y: np.power([x], [y])[0], "sigmoid": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
}  # fmt: skip


@pytest.mark.parametrize("name", ARITHMETIC + POINTWISE + COMPARISON)
def test_values_and_derivatives_agree_with_pytorch(name):
    rng = np.random.default_rng(1)
    for seed in range(12):
        compare_with_torch(name, tg.ops.get(name).domain(NumpyDraw(seed)), rng)


# Where PyTorch has no implementation for integers or bools, but the promoted result is well defined, we give it.
MORE_THAN_PYTORCH = {"hypot", "logaddexp", "sub"}


@pytest.mark.parametrize("name", sorted({*BINARY, "floor_divide", "copysign", "bitwise_and", "bitwise_left_shift", "isclose"}))
@pytest.mark.parametrize("left", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64", 2, 1.5])
def test_result_dtypes_agree_with_pytorch(name, left):
    torch = pytest.importorskip("torch")
    for right in ("bool", "uint8", "int16", "int64", "float16", "float32", "float64", 2, 1.5):
        if not isinstance(left, str) and not isinstance(right, str):
            continue
        values = [np.ones(3, v) if isinstance(v, str) else v for v in (left, right)]
        ours = [tg.tensor(v) if isinstance(v, np.ndarray) else v for v in values]
        theirs = [torch.tensor(v) if isinstance(v, np.ndarray) else v for v in values]
        expected = reports_to((RuntimeError, TypeError), torch_function(torch, name), *theirs)
        if isinstance(expected, TypeError) or (isinstance(expected, Exception) and name in MORE_THAN_PYTORCH):
            continue
        if isinstance(expected, Exception) and "did not match" in str(expected):  # isclose, which we promote
            continue
        got = reports_to((RuntimeError, TypeError), getattr(tg, name), *ours)
        if isinstance(expected, Exception):
            assert isinstance(got, Exception) and str(got).startswith(name), (name, left, right, got)
        else:
            assert not isinstance(got, Exception), (name, left, right, got)
            assert got.dtype == expected.dtype, (name, left, right)
            np.testing.assert_allclose(got, expected, rtol=1e-3)


@pytest.mark.parametrize("name", [n for n in POINTWISE if n != "atan2"] + ["neg", "abs", "sign", "square", "reciprocal"])
def test_one_operand_dtypes_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    for dtype in ("bool", "uint8", "int32", "int64", "float16", "float32", "float64"):
        values = np.array([1, 1, 0, 1], dtype)
        expected = reports_to((RuntimeError, TypeError), torch_function(torch, name), torch.tensor(values))
        got = reports_to((RuntimeError, TypeError), getattr(tg, name), tg.tensor(values))
        if isinstance(expected, Exception):
            assert isinstance(got, TypeError) and str(got).startswith(name), (name, dtype, got)
        else:
            assert not isinstance(got, Exception), (name, dtype, got)
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol=2e-3)


@pytest.mark.parametrize(
    "name", POINTWISE + BINARY + ["neg", "abs", "sign", "square", "reciprocal", "isnan", "isinf", "isfinite"]
)
def test_special_values_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    operands = [np.array(SPECIAL)]
    if name in BINARY or name == "atan2":
        operands = [np.array(column) for column in zip(*itertools.product(SPECIAL, SPECIAL), strict=True)]
    got = getattr(tg, name)(*(tg.tensor(v, dtype="float64") for v in operands)).numpy()
    expected = torch_function(torch, name)(*(torch.tensor(v) for v in operands)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("mode", ["trunc", "floor"])
def test_rounded_division_agrees_with_pytorch(mode):
    torch = pytest.importorskip("torch")
    a, b = (np.array(column) for column in zip(*itertools.product(range(-7, 8), (-3, -2, -1, 1, 2, 3)), strict=True))
    for dtype in (np.int8, np.int64, np.float32):
        got = tg.div(tg.tensor(a.astype(dtype)), tg.tensor(b.astype(dtype)), rounding_mode=mode).numpy()
        expected = torch.div(torch.tensor(a.astype(dtype)), torch.tensor(b.astype(dtype)), rounding_mode=mode).numpy()
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    assert ((tg.tensor(a) // tg.tensor(b)).numpy() == a // b).all()
    assert ((tg.tensor(a) % tg.tensor(b)).numpy() == a % b).all()


def test_python_operators_take_numbers_on_either_side():
    x = tg.tensor([1.0, 2.0, 4.0])
    for got, expected in [
        (1 - x, [0, -1, -3]), (x - 1, [0, 1, 3]), (2 / x, [2, 1, 0.5]), (x / 2, [0.5, 1, 2]), (2**x, [2, 4, 16]),
        (x**2, [1, 4, 16]), (5 // x, [5, 2, 1]), (x // 2, [0, 1, 2]), (5 % x, [0, 1, 1]), (x % 3, [1, 2, 1]),
        (-x, [-1, -2, -4]), (abs(-x), [1, 2, 4]), (+x, [1, 2, 4]),
    ]:  # fmt: skip
        assert got.dtype == tg.float32
        np.testing.assert_allclose(got.numpy(), expected)
    assert (1 < x).tolist() == [False, True, True]
    assert (~(x == 2)).tolist() == [True, False, True]
    mask = (x > 1) & (x < 4) | (x == 1)
    assert mask.tolist() == [True, True, False]
    assert (tg.tensor([1, 2]) << 3).tolist() == [8, 16]
    assert (tg.tensor([-9, 16]) >> 2).tolist() == [-3, 4]


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_of_minimum_and_maximum_share_the_gradient(name):
    a = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    b = tg.tensor([1.0, 5.0, 0.0], requires_grad=True)
    getattr(tg, name)(a, b).backward(tg.tensor([4.0, 4.0, 4.0]))
    assert a.grad.tolist() == ([2.0, 0.0, 4.0] if name == "maximum" else [2.0, 4.0, 0.0])
    assert (a.grad + b.grad).tolist() == [4.0, 4.0, 4.0]


def test_clamp_passes_the_gradient_at_its_bounds():
    x = tg.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, math.nan], requires_grad=True)
    x.clamp(-1, 1).backward(tg.ones(6))
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]
    np.testing.assert_array_equal(x.detach().clamp(min=0).numpy(), [0, 0, 0, 1, 2, math.nan])
    np.testing.assert_array_equal(x.detach().clamp(max=0).numpy(), [-2, -1, 0, 0, 0, math.nan])
    assert tg.tensor([1, 5]).clamp(2, 3).tolist() == [2, 3]
    assert tg.tensor([1, 5]).clamp(min=2).dtype == tg.int64
    assert tg.tensor([1, 5]).clamp(min=2.5).dtype == tg.float32
    assert tg.tensor([0.0]).clamp(2.0, -2.0).tolist() == [-2.0]
    with pytest.raises(ValueError, match=r"^clamp: at least one"):
        x.clamp()


def test_clamp_with_tensor_bounds_agrees_with_pytorch_where_they_cross():
    torch = pytest.importorskip("torch")
    columns = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3))).T.copy()
    ours = [tg.tensor(c, dtype="float64", requires_grad=True) for c in columns]
    theirs = [torch.tensor(c, requires_grad=True) for c in columns]
    tg.clamp(*ours).backward(tg.ones(27, dtype="float64"))
    torch.clamp(*theirs).backward(torch.ones(27))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())


@pytest.mark.parametrize("exponent", [0, 1, 2, 3.0, 0.5])
def test_powers_of_zero_have_pytorchs_gradient(exponent):
    torch = pytest.importorskip("torch")
    x, y = tg.tensor([0.0, 2.0], requires_grad=True), torch.tensor([0.0, 2.0], requires_grad=True)
    (x**exponent).backward(tg.ones(2))
    (y**exponent).backward(torch.ones(2))
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-6)
    base, power = tg.tensor([0.0, 2.0], requires_grad=True), tg.tensor([float(exponent)] * 2, requires_grad=True)
    tg.pow(base, power).backward(tg.ones(2))
    np.testing.assert_allclose(base.grad.numpy(), y.grad.numpy(), rtol=1e-6)
    np.testing.assert_allclose(power.grad.numpy(), [0.0, 2.0**exponent * math.log(2)], rtol=1e-6)


def test_the_second_derivative_of_a_tensor_power_is_finite_at_exponent_zero():
    x = tg.tensor([3.0], dtype="float64", requires_grad=True)
    p = tg.tensor([0.0], dtype="float64", requires_grad=True)
    (first,) = tg.autograd.grad(x**p, x, tg.ones(1, dtype="float64"), create_graph=True)
    (mixed,) = tg.autograd.grad(first, p, tg.ones(1, dtype="float64"))
    np.testing.assert_allclose(mixed.numpy(), [1 / 3])  # d2(x^p)/dx dp = x^(p-1) (1 + p ln x)


def test_integer_powers():
    torch = pytest.importorskip("torch")
    bases, exponents = np.array([2, 1, -1, -1, 0, 3, -2]), np.array([-1, -2, -3, -2, 0, 4, 3])
    got = tg.tensor(bases) ** tg.tensor(exponents)
    np.testing.assert_array_equal(got.numpy(), (torch.tensor(bases) ** torch.tensor(exponents)).numpy())
    with pytest.raises(RuntimeError, match=r"^pow: integers have no power -1"):
        tg.tensor([1, 2]) ** -1


def test_where_masked_fill_and_their_gradients():
    x = tg.tensor([[1.0, -2.0], [3.0, 4.0]], requires_grad=True)
    fill = tg.tensor(9.0, requires_grad=True)
    mask = x > 2
    out = tg.where(mask, x, 0.0) + x.masked_fill(mask, fill)
    assert out.tolist() == [[1.0, -2.0], [12.0, 13.0]]
    out.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]] and fill.grad.item() == 2.0
    assert tg.where(tg.tensor([True, False]), 1, 2).dtype == tg.int64
    assert tg.where(tg.tensor([True, False]), 1.0, 2).dtype == tg.float32
    assert tg.where(tg.tensor([True]), tg.tensor([1.0], dtype="float16"), 0.0).dtype == tg.float16
    assert tg.tensor([1, 2]).masked_fill(tg.tensor([True, False]), 7.0).tolist() == [7, 2]
    assert tg.tensor([True, True]).masked_fill(tg.tensor([True, False]), 0).tolist() == [False, True]


def test_nan_to_num_replaces_and_stops_the_gradient():
    x = tg.tensor([1.0, math.nan, math.inf, -math.inf], requires_grad=True)
    out = x.nan_to_num()
    largest = float(np.finfo(np.float32).max)
    assert out.tolist() == [1.0, 0.0, largest, -largest]
    out.backward(tg.ones(4))
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert x.detach().nan_to_num(5.0, 6.0, 7.0).tolist() == [1.0, 5.0, 6.0, 7.0]


def test_round_takes_halves_to_even_and_knows_decimals():
    assert tg.tensor([0.5, 1.5, 2.5, -0.5]).round().tolist() == [0.0, 2.0, 2.0, 0.0]
    np.testing.assert_allclose(tg.tensor([1.26, -13.7]).round(decimals=1).numpy(), [1.3, -13.7], rtol=1e-6)
    assert tg.tensor([126.0, -13.7]).round(decimals=-1).tolist() == [130.0, -10.0]


def test_isclose_allclose_and_equal_answer_plainly():
    x = tg.tensor([1.0, math.nan, math.inf])
    assert tg.isclose(x, x).tolist() == [True, False, True]
    assert tg.isclose(x, x, equal_nan=True).tolist() == [True, True, True]
    assert tg.isclose(tg.tensor([1.0]), tg.tensor([math.inf])).tolist() == [False]
    assert tg.allclose(tg.tensor([1.0]), tg.tensor([1.0 + 1e-7])) is True
    assert tg.equal(tg.tensor([1, 2]), tg.tensor([1, 2])) is True
    assert tg.equal(tg.tensor([1, 2]), tg.tensor([[1, 2]])) is False
    assert x.equal(x) is False


def test_numpy_numbers_as_attributes_do_not_widen():
    x = tg.ones(3)
    for out in (
        tg.add(x, x, alpha=np.float64(2)), tg.addcmul(x, x, x, value=np.float64(2)), x.clamp(np.float64(0), np.float64(2)),
        x * np.float64(2), x.lerp(x, np.float64(0.5)), x.nan_to_num(np.float64(1)), x.logit(np.float64(0.1)),
    ):  # fmt: skip
        assert out.dtype == tg.float32


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (TypeError, lambda: tg.tensor([True]) - tg.tensor([True]), "sub: .*logical_xor"),
        (TypeError, lambda: -tg.tensor([True]), "neg: .*logical_not"),
        (TypeError, lambda: tg.add(tg.tensor([1]), tg.tensor([1]), alpha=0.5), "add: alpha=0.5 must be an integer"),
        (TypeError, lambda: tg.addcdiv(tg.tensor([1]), tg.tensor([1]), tg.tensor([1])), "addcdiv: expected floating"),
        (ValueError, lambda: tg.div(tg.ones(1), 2, rounding_mode="up"), "div: rounding_mode .*'up'"),
        (RuntimeError, lambda: tg.tensor([1]) // 0, "floor_divide: integer division by zero"),
        (RuntimeError, lambda: tg.tensor([1]) % tg.tensor([0]), "remainder: integer division by zero"),
        (ValueError, lambda: tg.ones(2, 3) + tg.ones(4), r"add: shapes \(2, 3\) and \(4,\) do not broadcast"),
        (TypeError, lambda: tg.where(tg.tensor([1]), 1, 2), "where: `condition` must be a bool tensor, got int64"),
        (TypeError, lambda: tg.tensor([1]).masked_fill(tg.tensor([True]), 0.5), "masked_fill: the value 0.5 .*int64"),
        (
            ValueError,
            lambda: tg.ones(2).masked_fill(tg.tensor([True, False]), tg.ones(2)),
            "masked_fill: value must be a number",
        ),
        (TypeError, lambda: tg.ones(1) & tg.ones(1), "bitwise_and: expected integer or bool"),
        (ValueError, lambda: tg.isclose(tg.ones(1), tg.ones(1), rtol=-1), "isclose: rtol"),
        (TypeError, lambda: tg.tensor([1, 2]).mul_(0.5), "mul_: .*float32.*int64"),
    ],
)
def test_errors_name_the_operator_and_say_what_is_wrong(error, call, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


def scalar_text(operator, attributes):
    if not callable(operator.scalar):
        return operator.scalar
    return operator.scalar(*(attributes[p] for p in inspect.signature(operator.scalar).parameters))


def check_scalar(operator, arrays, attributes):
    """The scalar expression, element by element in Python, gives what the reference gives."""
    with np.errstate(all="ignore"):
        expected = np.asarray(operator.bind(operator.reference, arrays, tuple(attributes.values())))
        code = compile(scalar_text(operator, attributes), operator.name, "eval")
        columns = [a.ravel() for a in np.broadcast_arrays(*arrays)]
        got = [
            eval(code, {**LIBRARY, **attributes, **dict(zip(operator.tensor_params, row, strict=True))})
            for row in zip(*columns, strict=True)
        ]
    np.testing.assert_allclose(np.reshape(got, expected.shape), expected, rtol=1e-9, atol=1e-12, err_msg=operator.name)


def own_elementwise():
    modules = ("arithmetic", "comparison", "division", "pointwise", "trigonometry", "selection", "activation", "smooth")
    return [
        o.name
        for o in tg.ops.operators()
        if o.elementwise and o.scalar is not None and o.declaration.__module__ in {f"tinygrad_cv.ops.{m}" for m in modules}
    ]


@pytest.mark.parametrize("name", own_elementwise())
def test_the_scalar_expression_is_the_reference(name):
    operator = tg.ops.get(name)
    for seed in range(6):
        call = operator.domain(NumpyDraw(seed))
        bound = operator.signature.bind(*call.args, **call.kwargs)
        bound.apply_defaults()
        values = bound.arguments
        if operator.prepare is not None:
            made = [tg.tensor(v, dtype=v.dtype) if isinstance(v, np.ndarray) else v for v in values.values()]
            keywords = {p: v for (p, v) in zip(values, made, strict=True)}
            prepared = operator.prepare(**keywords)
            values = dict(zip(values, prepared, strict=True))
        arrays = tuple(v.numpy() if isinstance(v, tg.Tensor) else v for v in (values[p] for p in operator.tensor_params))
        check_scalar(operator, arrays, {p: values[p] for p in operator.attr_params})
        if seed == 0 and name not in ("where", "masked_fill", "clamp", "lerp"):
            columns = zip(*itertools.product(SPECIAL, repeat=len(arrays)), strict=True)
            check_scalar(operator, tuple(np.array(c) for c in columns), {p: values[p] for p in operator.attr_params})


def test_a_number_times_alpha_does_not_widen_the_result():
    x = tg.ones(2)
    for out, expected in (
        (x.add(1, alpha=2), 3),
        (tg.add(x, 1.5, alpha=2), 4),
        (tg.sub(x, 2, alpha=2), -3),
        (x.sub(1, alpha=0.5), 0.5),
    ):
        assert out.dtype == tg.float32 and out.tolist() == [expected] * 2
