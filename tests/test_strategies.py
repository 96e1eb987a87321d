"""Strategies of the test kit: what they promise of every example, and what failing examples shrink to."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

import tinygrad_cv as tg
from tinygrad_cv.testing import (
    arrays,
    broadcastable_shapes,
    laid_out,
    modules,
    op_inputs,
    programs,
    shapes,
    tensors,
)

_LOOK = settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def seen(strategy: st.SearchStrategy[Any], wanted: Any) -> Any:
    """The simplest example that has a property."""
    return find(strategy, wanted, settings=_LOOK)


# Shapes ---------------------------------------------------------------------------------------------------------------------


@given(st.data())
def test_shapes_keep_their_bounds(data: st.DataObject) -> None:
    least = data.draw(st.integers(0, 2))
    most = data.draw(st.integers(least, 5))
    size = data.draw(st.integers(9, 60))
    shape = data.draw(shapes(min_dims=least, max_dims=most, min_side=1, max_side=4, max_size=size))
    assert least <= len(shape) <= most
    assert all(1 <= s <= 4 for s in shape)
    assert math.prod(shape) <= size


def test_shapes_of_every_kind_occur_and_shrink() -> None:
    assert seen(shapes(), lambda s: True) == ()
    assert seen(shapes(), lambda s: len(s) == 3) == (1, 1, 1)
    assert 0 in seen(shapes(min_side=0), lambda s: 0 in s)
    assert seen(shapes(), lambda s: math.prod(s) >= 6) in {(2, 3), (3, 2)} | {(2, 3, 1)}
    with pytest.raises(NoSuchExample):
        seen(shapes(), lambda s: 0 in s)


@pytest.mark.parametrize("bounds", [{"min_dims": 2, "max_dims": 1}, {"min_side": 4, "max_side": 3}, {"min_side": 9, "min_dims": 3,
                                    "max_side": 9}, {"min_dims": -1}])  # fmt: skip
def test_impossible_shapes_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"^shapes: no shape has"):
        shapes(**bounds)


@given(st.data())
def test_broadcastable_shapes_broadcast(data: st.DataObject) -> None:
    shape = data.draw(shapes(min_side=0))
    to = data.draw(broadcastable_shapes(shape))
    assert np.broadcast_shapes(shape, to) == shape
    wider = data.draw(broadcastable_shapes(shape, max_dims=6))
    np.broadcast_shapes(shape, wider)
    assert len(wider) <= 6


def test_broadcastable_shapes_drop_and_add_axes() -> None:
    assert seen(broadcastable_shapes((2, 3)), lambda s: len(s) < 2) == ()
    assert seen(broadcastable_shapes((2, 3)), lambda s: s == (2, 1)) == (2, 1)
    assert len(seen(broadcastable_shapes((2, 3), max_dims=3), lambda s: len(s) == 3)) == 3
    with pytest.raises(ValueError, match=r"^broadcastable_shapes: no shape has 2 to 1 axes"):
        broadcastable_shapes((3,), min_dims=2)


# Arrays -----------------------------------------------------------------------------------------------------------------------


@given(arrays(st.sampled_from(["float32", "float64"]), shapes(min_side=0), min_value=-3, max_value=1))
def test_arrays_are_bounded_finite_and_without_subnormal_numbers(a: np.ndarray) -> None:
    assert a.dtype in (np.float32, np.float64)
    assert a.size <= 200
    assert np.all(np.isfinite(a)) and np.all((a >= -3) & (a <= 1))
    assert not np.any((a != 0) & (np.abs(a) < np.finfo(a.dtype).smallest_normal))


@given(arrays(shape=(3, 4), distinct=True, min_value=-1, max_value=2))
def test_distinct_arrays_keep_apart(a: np.ndarray) -> None:
    assert np.diff(np.sort(a, axis=None)).min() > 0.9 * 3 / 12
    assert a.min() >= -1 and a.max() <= 2


@given(arrays(avoid=(0.0, 1.0)))
def test_arrays_keep_from_what_is_avoided(a: np.ndarray) -> None:
    assert np.all(np.abs(a) >= 0.05) and np.all(np.abs(a - 1) >= 0.05)


@given(arrays(st.sampled_from(["int64", "uint8", "bool"]), min_value=0, max_value=5))
def test_integers_and_booleans(a: np.ndarray) -> None:
    assert a.dtype in (np.int64, np.uint8, np.bool_)
    assert np.all((a.astype(int) >= 0) & (a.astype(int) <= 5))


def test_every_layout_occurs() -> None:
    some = arrays(shape=(2, 3, 2), distinct=True)
    assert seen(some, lambda a: a.flags.f_contiguous).flags.f_contiguous
    assert min(seen(some, lambda a: min(a.strides) < 0).strides) < 0
    assert seen(some, lambda a: min(map(abs, a.strides)) > a.itemsize) is not None
    assert 0 in seen(arrays(shape=(2, 3)), lambda a: 0 in a.strides).strides
    permuted = seen(some, lambda a: not a.flags.c_contiguous and not a.flags.f_contiguous and a.strides[0] == a.itemsize)
    assert permuted.strides == (8, 32, 16)
    with pytest.raises(NoSuchExample):
        seen(some, lambda a: 0 in a.strides)
    assert seen(arrays(shape=(2, 3), layouts=["sliced"]), lambda a: True).strides == (2 * 9 * 8, 16)


def test_zero_dimensional_single_and_empty_arrays_occur() -> None:
    assert seen(arrays(), lambda a: a.ndim == 0).shape == ()
    assert seen(arrays(), lambda a: a.ndim > 0 and a.size == 1).shape == (1,)
    assert seen(arrays(shape=shapes(min_side=0)), lambda a: a.size == 0).shape == (0,)


def test_contents_shrink_to_zeros_in_plain_layout() -> None:
    found = seen(arrays(), lambda a: a.ndim == 2 and np.any(a > 0.5))
    assert found.shape in {(1, 1), (1, 2), (2, 1)} and found.flags.c_contiguous
    assert 0.5 < found.max() <= 2 and np.count_nonzero(found) == 1
    assert seen(arrays(min_value=1, max_value=3), lambda a: True) == 1.0


def test_subnormal_numbers_and_own_elements_on_request() -> None:
    tiny = np.finfo(np.float64).smallest_normal
    assert 0 < seen(arrays(shape=3, allow_subnormal=True), lambda a: np.any((a != 0) & (np.abs(a) < tiny))).max() < tiny
    assert set(seen(arrays(shape=4, elements=st.sampled_from([3.0, 7.0])), lambda a: len(set(a.tolist())) == 2).tolist()) == {
        3,
        7,
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"min_value": 1, "max_value": 0}, "lies above"), ({"layouts": ["spiral"]}, "spiral"), ({"layouts": []}, "none"),
     ({"min_value": 0.0, "max_value": 0.04, "avoid": (0.0,)}, "away from")],
)  # fmt: skip
def test_impossible_arrays_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"^arrays: .*{said}"):
        arrays(**arguments)


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "permuted", "sliced", "negative"])
def test_laid_out_has_the_values(layout: str) -> None:
    values = np.arange(12.0).reshape(2, 3, 2)
    assert np.array_equal(laid_out(values.tolist(), layout=layout), values)
    with pytest.raises(ValueError, match=r"^laid_out: layout must be one of"):
        laid_out([1.0], layout="upside down")


def test_a_failing_example_prints_as_code() -> None:
    @settings(_LOOK, phases=[Phase.generate, Phase.shrink], max_examples=200)
    @given(arrays(shape=(2, 3), layouts=["transposed"]))
    def fails(a: np.ndarray) -> None:
        assert a.sum() < 1

    with pytest.raises(AssertionError) as raised:
        fails()
    note = next(line for n in raised.value.__notes__ for line in n.splitlines() if line.startswith("laid_out("))
    rebuilt = eval(note, {"laid_out": laid_out})
    assert rebuilt.shape == (2, 3) and rebuilt.sum() >= 1 and rebuilt.flags.f_contiguous


# Tensors, calls, modules ------------------------------------------------------------------------------------------------------


@given(tensors(st.sampled_from(["float32", "float64", "int64"]), requires_grad=True))
def test_tensors(x: tg.Tensor) -> None:
    assert isinstance(x, tg.Tensor) and x.requires_grad == x.is_floating_point()
    assert x.is_leaf


def test_tensors_keep_strides() -> None:
    assert seen(tensors(shape=(2, 3), layouts=["transposed"]), lambda x: True).stride() == (1, 2)


@pytest.mark.parametrize("name", ["add", "max_pool2d", "cross_entropy"])
def test_op_inputs_are_calls_of_the_operator(name: str) -> None:
    @settings(max_examples=20)
    @given(op_inputs(name))
    def accepted(call: Any) -> None:
        args = [tg.from_numpy(a) if isinstance(a, np.ndarray) else a for a in call.args]
        tg.ops.get(name)(*args, **{k: tg.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in call.kwargs.items()})

    accepted()
    with pytest.raises(KeyError, match="did you mean"):
        op_inputs(name + "x")


@given(modules())
def test_modules_take_their_input_and_have_gradients(example: Any) -> None:
    module, x = example
    out = module(x)
    assert out.dtype == np.float64 and out.shape[0] == x.shape[0]
    out.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    assert all(p.grad is not None for p in module.parameters())


@settings(max_examples=6)
@given(modules(smooth=True, most=3))
def test_derivatives_of_smooth_modules(example: Any) -> None:
    module, x = example
    module.eval()
    assert tg.autograd.gradcheck(module, (x,))


def test_modules_of_both_kinds_occur() -> None:
    assert seen(modules(), lambda m: True).input.ndim == 2
    images = seen(modules(), lambda m: any(isinstance(layer, tg.nn.Conv2d) for layer in m.module))
    assert images.input.ndim == 4
    with pytest.raises(ValueError, match=r"^modules: kinds must be"):
        modules(kinds=["sounds"])


# Without Hypothesis -----------------------------------------------------------------------------------------------------------


def test_without_hypothesis_one_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import tinygrad_cv.testing as testing\n"
        "assert testing.check_op and testing.compare and testing.Program\n"
        "for name in ('arrays', 'programs', 'modules', 'op_inputs'):\n"
        "    try:\n"
        "        getattr(testing, name)\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(out) == 4
    assert all("needs Hypothesis" in line and "pip install 'tinygrad_cv[testing]'" in line for line in out)


def test_programs_refuse_what_cannot_be_drawn() -> None:
    with pytest.raises(KeyError, match="no operator is called"):
        programs(["no_such_operator"])
    with pytest.raises(ValueError, match=r"^programs: most must be at least 1"):
        programs(most=0)
    with pytest.raises(ValueError, match=r"^programs: none of"):
        programs(["cast"])
