"""Functions that make tensors, with PyTorch's names, arguments and dtypes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import dtypes
from ._state import state
from ._tensor import Tensor, wrap
from .devices import as_device
from .random import Generator, numpy_generator
from .replay import left, replayable


def _finish(array: np.ndarray, device: Any, requires_grad: bool) -> Tensor:
    as_device(device).require()
    out = wrap(array)
    if state.inference:
        out._inference = True
    if state.capture is not None:
        state.capture.made(out)
    return out.requires_grad_() if requires_grad else out


def _shape(size: tuple[Any, ...], name: str, keyword: Any = None) -> tuple[int, ...]:
    """The shape given as integers or one sequence, or by the keyword `size`."""
    if keyword is not None:
        if size:
            raise TypeError(f"{name}: the sizes were given twice, as {size} and as size={keyword}")
        size = (keyword,)
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    try:
        shape = tuple(s.__index__() for s in size)
    except (AttributeError, TypeError):
        raise TypeError(f"{name}: sizes must be integers, got {size}") from None
    if any(s < 0 for s in shape):
        raise ValueError(f"{name}: sizes must not be negative, got {shape}")
    return shape


def tensor(data: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A new tensor holding a copy of `data` (numbers, nested lists, arrays, tensors).

    dtype: given, or NumPy's for an array, or float32 / int64 / bool for Python numbers. ValueError for ragged lists and for
    integers that the dtype does not hold; TypeError for data that are not numbers, for arrays of a dtype that is not supported (such
    as uint16, which is never converted unasked) and for `requires_grad` on a dtype without gradients.
    """
    if isinstance(data, Tensor):
        left(data, "tensor()")
        data = data._data
    wanted = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(data, (list, tuple)) and data and not isinstance(data[0], (int, float)):
        data = _unwrapped(data)
    try:
        array = np.array(data, dtype=wanted)
    except (ValueError, TypeError, OverflowError) as error:
        raise _unusable(data, wanted, error) from None
    typed = isinstance(data, (np.ndarray, np.generic))
    if array.dtype.kind not in "biuf" or (array.dtype == np.uint64 and not typed):
        raise _unusable(data, wanted, None)
    if wanted is None and array.dtype not in dtypes.SUPPORTED:
        native = array.dtype.newbyteorder("=")
        if native not in dtypes.SUPPORTED:
            raise TypeError(f"tensor: {dtypes.unsupported(array.dtype)}")
        array = array.astype(native)
    if wanted is None and array.dtype.kind == "f" and not typed:
        if array.size and np.abs(array).max() >= 2.0**63 and _integral(data):  # NumPy has them as floats
            raise _unusable(data, wanted, None)
        array = array.astype(dtypes.get_default_dtype())
    return _finish(array, device, requires_grad)


def _unwrapped(data: Any) -> Any:
    """Nested lists with tensors replaced by arrays: NumPy would otherwise ask them element by element."""
    if isinstance(data, Tensor):
        left(data, "tensor()")
        return data._data
    return [_unwrapped(d) for d in data] if isinstance(data, (list, tuple)) else data


def _integral(data: Any) -> bool:
    """Whether nested lists hold integers only."""
    return all(_integral(d) for d in data) if isinstance(data, (list, tuple)) else isinstance(data, (int, np.integer))


def _unusable(data: Any, wanted: np.dtype[Any] | None, error: Exception | None) -> Exception:
    """The error for data that are no tensor: what is wrong, and where in the nested lists."""
    if isinstance(data, (np.ndarray, np.generic)):
        return TypeError(f"tensor: {dtypes.unsupported(data.dtype)}")
    held = wanted if wanted is not None and wanted.kind in "iu" else dtypes.int64
    limits = np.iinfo(held)
    stack: list[tuple[Any, str]] = [(data, "")]
    while stack:
        item, place = stack.pop()
        where = f" at {place}" if place else ""
        if isinstance(item, (list, tuple)):
            stack.extend((v, f"{place}[{i}]") for i, v in reversed(list(enumerate(item))))
        elif isinstance(item, (int, np.integer)):
            if not limits.min <= item <= limits.max:
                return ValueError(f"tensor: {item}{where} does not fit {held}, which holds {limits.min} to {limits.max}")
        elif not isinstance(item, (float, np.bool_, np.floating, np.ndarray)):
            shown = item is None or isinstance(item, (str, bytes, complex))
            return TypeError(f"tensor: expected numbers, got {repr(item) if shown else type(item).__name__}{where}")
    if isinstance(error, ValueError) and "inhomogeneous" in str(error):
        return ValueError("tensor: nested lists must have equal lengths on every level, these do not")
    return (TypeError if error is None else type(error))(f"tensor: cannot make a tensor of {type(data).__name__}: {error}")


def as_tensor(data: Any, dtype: Any = None, device: Any = "cpu") -> Tensor:
    """`data` as a tensor: itself if it is one of the dtype, sharing memory with an array where it can."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray) and data.dtype in dtypes.SUPPORTED:
        out = from_numpy(data)
        return out if dtype is None else out.to(dtype)
    return tensor(data, dtype=dtype, device=device)


asarray = as_tensor


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares `array`'s memory: a write to either is seen by both. TypeError for an unsupported dtype."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}")
    if array.dtype not in dtypes.SUPPORTED or not array.dtype.isnative:
        raise TypeError(f"from_numpy: {dtypes.unsupported(array.dtype)}")
    return wrap(array)


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares the memory of another library's CPU tensor."""
    return from_numpy(np.from_dlpack(source))


def zeros(*sizes: Any, size: Any = None, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of zeros, of shape zeros(2, 3), zeros((2, 3)) or zeros(size=(2, 3)); so for the other creators."""
    return _finish(np.zeros(_shape(sizes, "zeros", size), _float(dtype)), device, requires_grad)


def ones(*sizes: Any, size: Any = None, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return _finish(np.ones(_shape(sizes, "ones", size), _float(dtype)), device, requires_grad)


def empty(*sizes: Any, size: Any = None, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of whatever the memory holds."""
    return _finish(np.empty(_shape(sizes, "empty", size), _float(dtype)), device, requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of one value; its dtype follows the value unless given."""
    fill_value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    resolved = dtypes.scalar_dtype(fill_value) if dtype is None else dtypes.as_dtype(dtype)
    return _finish(np.full(_shape((size,), "full"), fill_value, resolved), device, requires_grad)


def _float(dtype: Any) -> np.dtype[Any]:
    return dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """start, start + step, ... below `end` (above, for a negative step); int64 for integers, else float32.

    With an integer dtype, start and step (for int64 end too) first lose their fractions, as in PyTorch. ValueError for bounds that are
    not finite, and for a step that is 0 or leads away from `end`.
    """
    if end is None:
        start, end = 0, start
    start, end, step = (v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step))
    if not all(math.isfinite(v) for v in (start, end, step)):
        raise ValueError(f"arange: start, end and step must be finite, got {start}, {end}, {step}")
    if step == 0:
        raise ValueError("arange: step must not be 0")
    if (end - start) / step < 0:
        raise ValueError(f"arange: no values from {start} to {end} in steps of {step}; the sign of step is wrong")
    if dtype is None:
        integral = all(isinstance(v, int) for v in (start, end, step))
        dtype = dtypes.int64 if integral else dtypes.get_default_dtype()
    dtype = dtypes.as_dtype(dtype)
    if dtype == dtypes.bool_:
        raise TypeError("arange: expected an integer or floating dtype, got bool")
    count = None
    if dtype.kind in "iu":
        if int(step) == 0:
            raise ValueError(f"arange: step {step} is 0 in {dtype}")
        if dtype == dtypes.int64:
            end = int(end)
        else:
            count = math.ceil((end - start) / step)
        start, step = int(start), int(step)
    if count is None:
        whole = isinstance(end - start, int) and isinstance(step, int)
        count = -((start - end) // step) if whole else math.ceil((end - start) / step)
    values = start + step * np.arange(max(count, 0))
    return _finish(np.asarray(values).astype(dtype), device, requires_grad)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced values from `start` to `end`, both included and numbers or 0-d tensors; float32 unless given.

    Computed in float64, from both ends towards the middle. With an integer dtype both ends and then all values lose their fractions, as
    in PyTorch. ValueError for negative steps and for ends that are no single value, TypeError for what is no number and for bool.
    """
    (count,) = _shape((steps,), "linspace")
    wanted = _float(dtype)
    if wanted == dtypes.bool_:
        raise TypeError("linspace: expected an integer or floating dtype, got bool")
    ends = []
    for value in (start, end):
        array = value._data if isinstance(value, Tensor) else np.asarray(value)
        if array.ndim:
            raise ValueError(f"linspace: start and end must be numbers or 0-d tensors, got shape {array.shape}")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"linspace: start and end must be numbers, got {type(value).__name__}")
        ends.append(float(array.astype(wanted)))
    first, last = ends
    step = (last - first) / (count - 1) if count > 1 else 0.0
    index = np.arange(count)
    with np.errstate(invalid="ignore"):
        values = np.where(index < max(count // 2, 1), first + step * index, last - step * index[::-1])
    return _finish(values.astype(wanted), device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """The (n, m) matrix with ones on the diagonal; m is n unless given. ValueError for a negative size."""
    rows, columns = _shape((n, n if m is None else m), "eye")
    return _finish(np.eye(rows, columns, dtype=_float(dtype)), device, requires_grad)


@replayable(local=True)
def rand(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Uniform on [0, 1)."""
    return _finish(_draw("random", _shape(sizes, "rand", size), _float(dtype), generator), device, requires_grad)


@replayable(local=True)
def randn(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Normal with mean 0 and variance 1."""
    return _finish(_draw("standard_normal", _shape(sizes, "randn", size), _float(dtype), generator), device, requires_grad)


def _draw(kind: str, shape: tuple[int, ...], dtype: np.dtype[Any], generator: Generator | None) -> np.ndarray:
    method: Callable[..., Any] = getattr(numpy_generator(generator), kind)
    if dtype in (dtypes.float32, dtypes.float64):
        return np.asarray(method(shape, dtype=dtype.type), dtype)
    if dtype.kind != "f":
        raise TypeError(f"random floats need a floating dtype, got {dtype}; use randint")
    return np.asarray(method(shape, dtype=np.float32)).astype(dtype)


@replayable(local=True)
def randint(
    low: Any = 0,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Integers from `low` up to but not including `high`: randint(high, size), randint(low, high, size), by keyword too.

    dtype: int64 unless given. ValueError unless low < high, and for bounds that the dtype does not hold.
    """
    if size is None and isinstance(high, (tuple, list)):
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint: size is missing, as in randint(0, 10, (3,)) or randint(high=10, size=(3,))")
    if high <= low:
        raise ValueError(f"randint: high must be above low, got low={low}, high={high}")
    wanted = dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)
    if wanted.kind in "iu" and not (np.iinfo(wanted).min <= low and high - 1 <= np.iinfo(wanted).max):
        raise ValueError(f"randint: {wanted} does not hold the values from {low} to {high - 1}")
    values = numpy_generator(generator).integers(low, high, _shape((size,), "randint"))
    return _finish(values.astype(wanted), device, requires_grad)


@replayable(local=True)
def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = "cpu") -> Tensor:
    """A random order of 0 ... n - 1."""
    values = numpy_generator(generator).permutation(n)
    return _finish(values.astype(dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)), device, False)


@replayable(local=True)
def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Normal with the given mean and standard deviation, numbers or Tensors.

    Numbers need `size`; Tensors are broadcast together and give shape and dtype (the mean's, if it is a Tensor). No gradient flows
    to them (PyTorch's is zero). TypeError for `size` or `dtype` beside Tensors and for integer Tensors, ValueError for a negative
    std and for shapes that do not broadcast.
    """
    parts = [p for p in (mean, std) if isinstance(p, Tensor)]
    if parts and (size is not None or dtype is not None):
        raise TypeError("normal: size and dtype follow from the Tensors given for mean and std; leave them out")
    if not parts and size is None:
        raise TypeError("normal: size is missing, as in normal(0.0, 1.0, size=(2, 3))")
    for part in parts:
        if part.dtype.kind != "f":
            raise TypeError(f"normal: expected floating tensors, got {part.dtype}; use .float()")
    center, spread = (np.asarray(p._data if isinstance(p, Tensor) else p) for p in (mean, std))
    if (spread < 0).any():
        raise ValueError(f"normal: std must not be negative, got {spread.min()}")
    try:
        shape = np.broadcast_shapes(center.shape, spread.shape) if parts else _shape((size,), "normal")
    except ValueError:
        raise ValueError(f"normal: mean of shape {center.shape} and std of shape {spread.shape} do not broadcast") from None
    values = _draw("standard_normal", shape, parts[0].dtype if parts else _float(dtype), generator)
    values = values * spread.astype(values.dtype) + center.astype(values.dtype)
    return _finish(np.asarray(values), device, requires_grad)


@replayable(local=True)
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that the element of `input` gives, else 0; of its shape and dtype. No gradient flows to it.

    p: one probability for all elements, whatever `input` holds (which may then have any dtype). TypeError for integers without p,
    ValueError for probabilities outside of [0, 1].
    """
    if p is None and input.dtype.kind != "f":
        raise TypeError(f"bernoulli: expected floating probabilities, got {input.dtype}; use .float(), or give p")
    chance = input._data if p is None else np.asarray(p)
    if not ((chance >= 0) & (chance <= 1)).all():
        raise ValueError("bernoulli: probabilities must lie in [0, 1]")
    return wrap((numpy_generator(generator).random(input.shape) < chance).astype(input.dtype))


def _like(name: str, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def like(
        input: Tensor, *args: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False, **kwargs: Any
    ) -> Tensor:
        out = make(input.shape, *args, dtype=input.dtype if dtype is None else dtype, device=device, **kwargs)
        return out.requires_grad_() if requires_grad else out

    like.__name__ = like.__qualname__ = name
    like.__doc__ = f"As `{make.__name__}`, with the shape and (unless given) the dtype of `input`."
    return like


zeros_like = _like("zeros_like", zeros)
ones_like = _like("ones_like", ones)
empty_like = _like("empty_like", empty)
full_like = _like("full_like", full)
rand_like = _like("rand_like", rand)
randn_like = _like("randn_like", randn)


def randint_like(
    input: Tensor, low: int, high: int | None = None, *, dtype: Any = None, generator: Generator | None = None
) -> Tensor:
    """As `randint`, with the shape and (unless given) the dtype of `input`."""
    bounds = (0, low) if high is None else (low, high)
    return randint(*bounds, input.shape, dtype=input.dtype if dtype is None else dtype, generator=generator)


_WITHOUT_EFFECT = {
    "pin_memory": ("False", "None"), "layout": ("strided", "None"), "memory_format": ("contiguous_format", "preserve_format", "None"),
}  # fmt: skip


def _taking_defaults(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`make`, which also takes the arguments of PyTorch's that mean nothing here, with the values that ask for nothing special."""

    @functools.wraps(make)
    def creator(*args: Any, **kwargs: Any) -> Tensor:
        if not _WITHOUT_EFFECT.keys().isdisjoint(kwargs):
            for name in _WITHOUT_EFFECT.keys() & kwargs.keys():
                value = str(kwargs.pop(name)).rpartition(".")[2]
                if value not in _WITHOUT_EFFECT[name]:
                    raise ValueError(f"{make.__name__}: {name} must be {' or '.join(_WITHOUT_EFFECT[name])}, got {value}")
        return make(*args, **kwargs)

    return creator


for _name in (
    "tensor", "zeros", "ones", "empty", "full", "arange", "linspace", "eye", "rand", "randn", "randint", "randperm", "normal",
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like",
):  # fmt: skip
    globals()[_name] = _taking_defaults(globals()[_name])


__all__ = [
    "arange", "as_tensor", "asarray", "bernoulli", "empty", "empty_like", "eye", "from_dlpack", "from_numpy", "full", "full_like",
    "linspace", "normal", "ones", "ones_like", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm",
    "tensor", "zeros", "zeros_like",
]  # fmt: skip
