"""What makes tensors: sizes by keyword, random draws, and data that cannot be one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tinygrad_cv as tg


@pytest.mark.parametrize("make", [tg.zeros, tg.ones, tg.empty, tg.rand, tg.randn, tg.ones(1).new_zeros, tg.ones(1).new_empty])
def test_sizes_one_by_one_as_a_tuple_and_by_keyword(make: Callable[..., tg.Tensor]) -> None:
    assert make(2, 3).shape == make((2, 3)).shape == make(size=(2, 3)).shape == make(size=[2, 3]).shape == (2, 3)
    assert make(size=()).shape == ()
    with pytest.raises(TypeError, match="the sizes were given twice"):
        make(2, size=(3,))


def test_randint_in_every_form() -> None:
    for call, low, high in (
        (lambda: tg.randint(3, (200,)), 0, 3),
        (lambda: tg.randint(3, size=(200,)), 0, 3),
        (lambda: tg.randint(high=3, size=(200,)), 0, 3),
        (lambda: tg.randint(-2, 2, (200,)), -2, 2),
        (lambda: tg.randint(low=-2, high=2, size=(200,)), -2, 2),
        (lambda: tg.randint(254, 256, (200,), dtype=tg.uint8), 254, 256),
    ):
        assert sorted(set(call().tolist())) == list(range(low, high))
    with pytest.raises(ValueError, match="randint: uint8 does not hold the values from 0 to 299"):
        tg.randint(300, (2,), dtype=tg.uint8)
    with pytest.raises(TypeError, match="randint: size is missing"):
        tg.randint(high=3)
    with pytest.raises(ValueError, match="randint: high must be above low"):
        tg.randint(5, 5, (1,))


def test_normal_of_tensors() -> None:
    tg.manual_seed(0)
    mean, std = tg.tensor([[0.0], [100.0]], dtype=tg.float64), tg.full((20000,), 2.0)
    drawn = tg.normal(mean, std)
    assert drawn.shape == (2, 20000) and drawn.dtype == tg.float64
    np.testing.assert_allclose(drawn.mean(1).tolist(), [0, 100], atol=0.06)
    np.testing.assert_allclose(drawn.std(1).tolist(), [2, 2], atol=0.06)
    assert tg.normal(tg.zeros(3)).shape == tg.normal(0.0, tg.ones(3)).shape == tg.normal(size=(3,)).shape == (3,)
    assert tg.normal(tg.tensor([1.0, 2.0]), 0.0).tolist() == [1.0, 2.0]
    tg.manual_seed(3)
    first = tg.normal(1.0, 2.0, size=(4,))
    tg.manual_seed(3)
    assert tg.equal(first, tg.normal(1.0, 2.0, (4,)))
    for call, kind, words in (
        (lambda: tg.normal(0.0, -1.0, (2,)), ValueError, "normal: std must not be negative, got -1"),
        (lambda: tg.normal(0.0, tg.tensor([1.0, -2.0])), ValueError, "normal: std must not be negative, got -2"),
        (lambda: tg.normal(tg.zeros(2), 1.0, size=(2,)), TypeError, "size and dtype follow from the Tensors"),
        (lambda: tg.normal(tg.zeros(2), tg.ones(3)), ValueError, r"mean of shape \(2,\) and std of shape \(3,\)"),
        (lambda: tg.normal(tg.zeros(2).long()), TypeError, "normal: expected floating tensors, got int64"),
        (lambda: tg.normal(0.0, 1.0), TypeError, "normal: size is missing"),
    ):
        with pytest.raises(kind, match=words):
            call()


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (2**70, ValueError, f"{2**70} does not fit int64"),
        ([2, 2**63], ValueError, rf"{2**63} at \[1\] does not fit int64"),
        ([None], TypeError, r"expected numbers, got None at \[0\]"),
        ([[1, 2], [3, None]], TypeError, r"got None at \[1\]\[1\]"),
        (None, TypeError, "expected numbers, got None"),
        ([1.0, "a"], TypeError, r"got 'a' at \[1\]"),
        (1j, TypeError, "got 1j"),
        ({}, TypeError, "got dict"),
        ([[1, 2], [3]], ValueError, "nested lists must have equal lengths"),
        (np.zeros(2, np.complex64), TypeError, "dtype complex64 is not supported"),
        (np.array([None]), TypeError, "dtype object is not supported"),
    ],
)
def test_data_that_are_no_tensor_are_told_and_where(data: object, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^tensor: .*{words}"):
        tg.tensor(data)


def test_an_integer_must_fit_the_dtype() -> None:
    with pytest.raises(ValueError, match="tensor: 300 does not fit uint8, which holds 0 to 255"):
        tg.tensor(300, dtype=tg.uint8)
    with pytest.raises(ValueError, match=r"tensor: -1 at \[1\] does not fit uint8"):
        tg.tensor([0, -1], dtype="uint8")
    assert tg.tensor(2**70, dtype=tg.float64).item() == float(2**70)


@pytest.mark.parametrize(
    ("dtype", "advice"), [(np.uint16, "int32"), (np.uint32, "int64"), (np.uint64, "int64"), (np.longdouble, "float64")]
)
def test_arrays_of_other_dtypes_are_never_converted_unasked(dtype: type, advice: str) -> None:
    if np.dtype(dtype) == np.float64:
        pytest.skip("long double is double here")
    array = np.zeros(2, dtype)
    for make in (tg.tensor, tg.as_tensor, tg.from_numpy):
        with pytest.raises(TypeError, match=rf"is not supported, only bool, uint8, .*array\.astype\(np\.{advice}\)"):
            make(array)
    assert tg.tensor(array, dtype=tg.float32).dtype == tg.float32


def test_the_order_of_bytes_is_no_dtype() -> None:
    swapped = np.arange(3.0).astype(np.dtype(np.float64).newbyteorder())
    found = tg.tensor(swapped)
    assert found.dtype == tg.float64 and found.dtype.isnative and found.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(TypeError, match=r"array\.astype\(np\.float64\)"):
        tg.from_numpy(swapped)


def test_numbers_of_tensors_with_several_elements() -> None:
    x = tg.zeros(2)
    for convert, name in ((int, "int"), (float, "float"), (lambda t: t.item(), "item")):
        with pytest.raises(ValueError, match=rf"^{name}\(\): expected a tensor with one element, got shape \(2,\)"):
            convert(x)
    with pytest.raises(TypeError, match=r"only integer tensors of one element .* int64 of shape \(2,\)"):
        [1, 2][x.long()]


def test_numpy_gets_no_tensor_that_requires_grad() -> None:
    x = tg.ones(2, requires_grad=True)
    for call in (lambda: np.asarray(x), lambda: np.array(x * 2), lambda: np.exp(x)):
        with pytest.raises(RuntimeError, match=r"requires grad; use \.detach\(\)\.numpy\(\)"):
            call()
    assert np.asarray(x.detach()).tolist() == [1.0, 1.0] and 1.0 in x
    assert tg.is_grad_enabled()


def test_an_empty_tensor_prints_its_dtype() -> None:
    assert repr(tg.zeros(0)) == "tensor([])" and repr(tg.zeros(0, dtype=tg.int64)) == "tensor([], dtype=int64)"


@pytest.mark.parametrize(
    "call",
    [
        "linspace(4.3, -3, 50, dtype=p.int64)", "linspace(0, 10, 4, dtype=p.uint8)", "linspace(p.tensor(-2.0), -3, 4, dtype=p.float64)",
        "linspace(0.1, 0.7, 7, dtype=p.float64)", "linspace(p.tensor(0.0), p.tensor(1), 3)", "linspace(2, 5, 1)", "linspace(2, 5, 0)",
        "linspace(2, 5, 2, dtype=p.int32)", "arange(0.1, -7.9, -4.0, dtype=p.int64)", "arange(0.5, 7.9, 2.5, dtype=p.int64)",
        "arange(0.5, 7.9, 2.5, dtype=p.uint8)", "arange(-3, 3, dtype=p.uint8)", "arange(2**53, 2**53 + 3)", "arange(1, 2, 0.3)",
        "arange(0.5, 0.7, dtype=p.int64)", "arange(5, 5)", "zeros(3, pin_memory=False, layout=p.strided, dtype=p.int32)",
        "eye(2, 3, layout=None)", "tensor([1.0], pin_memory=False)", "ones_like(p.ones(2), memory_format=p.preserve_format)",
    ],
)  # fmt: skip
def test_creators_agree_with_pytorch(call):
    torch = pytest.importorskip("torch")
    named = {"strided": "strided", "preserve_format": "preserve_format"}  # formats are given by their names here
    namespace = type("Package", (), {**{k: getattr(tg, k) for k in dir(tg) if not k.startswith("_")}, **named})
    ours, theirs = eval(f"p.{call}", {"p": namespace}), eval(f"p.{call}", {"p": torch})
    assert f"torch.{ours.dtype}" == str(theirs.dtype)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-15 if ours.dtype != tg.float32 else 1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tg.eye(-1), ValueError, "eye: sizes must not be negative"),
        (lambda: tg.eye(2.5), TypeError, "eye: sizes must be integers"),
        (lambda: tg.arange(0, float("inf")), ValueError, "arange: start, end and step must be finite, got 0, inf, 1"),
        (lambda: tg.arange(float("nan")), ValueError, "arange: .* finite"),
        (lambda: tg.arange(0, 3, 0.5, dtype=tg.int64), ValueError, "arange: step 0.5 is 0 in int64"),
        (lambda: tg.arange(3, dtype=tg.bool), TypeError, "arange: expected an integer or floating dtype, got bool"),
        (lambda: tg.linspace(0, 1, 2.5), TypeError, "linspace: sizes must be integers"),
        (lambda: tg.linspace(0, 1, -1), ValueError, "linspace: sizes must not be negative"),
        (lambda: tg.linspace(tg.zeros(1), 1, 3), ValueError, r"linspace: start and end must be numbers or 0-d .*\(1,\)"),
        (lambda: tg.linspace("0", 1, 3), TypeError, "linspace: start and end must be numbers, got str"),
        (lambda: tg.zeros(3, pin_memory=True), ValueError, "zeros: pin_memory must be False or None, got True"),
        (lambda: tg.ones_like(tg.ones(2), memory_format="channels_last"), ValueError, "ones_like: memory_format must be"),
    ],
)
def test_creators_name_themselves_in_errors(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
