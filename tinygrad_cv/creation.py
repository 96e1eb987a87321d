"""Functions that make tensors, with PyTorch's names, arguments and dtypes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import dtypes
from ._tensor import Tensor, wrap
from .devices import as_device
from .random import Generator, numpy_generator


def _finish(array: np.ndarray, device: Any, requires_grad: bool) -> Tensor:
    as_device(device).require()
    out = wrap(array)
    return out.requires_grad_() if requires_grad else out


def _shape(size: tuple[Any, ...], name: str) -> tuple[int, ...]:
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

    dtype: given, or NumPy's for an array, or float32 / int64 / bool for Python numbers. ValueError for ragged lists, TypeError
    for data that are not numbers or for `requires_grad` on a dtype without gradients.
    """
    if isinstance(data, Tensor):
        data = data._data
    wanted = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(data, (list, tuple)) and data and not isinstance(data[0], (int, float)):
        data = _unwrapped(data)
    try:
        array = np.array(data, dtype=wanted)
    except (ValueError, TypeError, OverflowError) as error:
        raise type(error)(f"tensor: cannot make a tensor of {type(data).__name__}: {error}") from None
    if array.dtype == object or array.dtype.kind not in "biuf":
        raise TypeError(f"tensor: expected numbers, got {array.dtype if array.dtype != object else type(data).__name__}")
    if wanted is None:
        if array.dtype.kind == "f" and not isinstance(data, (np.ndarray, np.generic)):
            array = array.astype(dtypes.get_default_dtype())
        elif array.dtype not in dtypes.SUPPORTED:
            array = array.astype(dtypes.int64 if array.dtype.kind in "iu" else dtypes.get_default_dtype())
    return _finish(array, device, requires_grad)


def _unwrapped(data: Any) -> Any:
    """Nested lists with tensors replaced by arrays: NumPy would otherwise ask them element by element."""
    if isinstance(data, Tensor):
        return data._data
    return [_unwrapped(d) for d in data] if isinstance(data, (list, tuple)) else data


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
        raise TypeError(f"from_numpy: dtype {array.dtype} is not supported; use array.astype('float32') or another dtype")
    return wrap(array)


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares the memory of another library's CPU tensor."""
    return from_numpy(np.from_dlpack(source))


def zeros(*size: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return _finish(np.zeros(_shape(size, "zeros"), _float(dtype)), device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return _finish(np.ones(_shape(size, "ones"), _float(dtype)), device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of whatever the memory holds."""
    return _finish(np.empty(_shape(size, "empty"), _float(dtype)), device, requires_grad)


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
    """start, start + step, ... below `end` (above, for a negative step); int64 for integers, else float32."""
    if end is None:
        start, end = 0, start
    start, end, step = (v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step))
    if step == 0:
        raise ValueError("arange: step must not be 0")
    if (end - start) / step < 0:
        raise ValueError(f"arange: no values from {start} to {end} in steps of {step}; the sign of step is wrong")
    if dtype is None:
        integral = all(isinstance(v, int) for v in (start, end, step))
        dtype = dtypes.int64 if integral else dtypes.get_default_dtype()
    count = math.ceil((end - start) / step)
    values = start + step * np.arange(count)
    return _finish(np.asarray(values).astype(dtypes.as_dtype(dtype)), device, requires_grad)


def linspace(
    start: float, end: float, steps: int, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced values from `start` to `end`, both included."""
    if steps < 0:
        raise ValueError(f"linspace: steps must not be negative, got {steps}")
    return _finish(np.linspace(start, end, steps, dtype=np.float64).astype(_float(dtype)), device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """The (n, m) matrix with ones on the diagonal."""
    return _finish(np.eye(n, m, dtype=_float(dtype)), device, requires_grad)


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """Uniform on [0, 1)."""
    return _finish(_draw("random", _shape(size, "rand"), _float(dtype), generator), device, requires_grad)


def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """Normal with mean 0 and variance 1."""
    return _finish(_draw("standard_normal", _shape(size, "randn"), _float(dtype), generator), device, requires_grad)


def _draw(kind: str, shape: tuple[int, ...], dtype: np.dtype[Any], generator: Generator | None) -> np.ndarray:
    method: Callable[..., Any] = getattr(numpy_generator(generator), kind)
    if dtype in (dtypes.float32, dtypes.float64):
        return np.asarray(method(shape, dtype=dtype.type), dtype)
    if dtype.kind != "f":
        raise TypeError(f"random floats need a floating dtype, got {dtype}; use randint")
    return np.asarray(method(shape, dtype=np.float32)).astype(dtype)


def randint(
    low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None, dtype: Any = None, device: Any = "cpu"
) -> Tensor:
    """Integers from `low` (0 when only one bound is given) up to but not including `high`."""
    if size is None:
        if not isinstance(high, (tuple, list)):
            raise TypeError("randint: size is missing, as in randint(0, 10, (3,))")
        low, high, size = 0, low, high
    if high <= low:
        raise ValueError(f"randint: high must be above low, got low={low}, high={high}")
    values = numpy_generator(generator).integers(low, high, _shape((size,), "randint"))
    return _finish(values.astype(dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)), device, False)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = "cpu") -> Tensor:
    """A random order of 0 ... n - 1."""
    values = numpy_generator(generator).permutation(n)
    return _finish(values.astype(dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)), device, False)


def normal(mean: float, std: float, size: Any, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    if std < 0:
        raise ValueError(f"normal: std must not be negative, got {std}")
    values = _draw("standard_normal", _shape((size,), "normal"), _float(dtype), generator)
    return wrap(np.asarray(values * np.asarray(std, values.dtype) + np.asarray(mean, values.dtype)))


def bernoulli(p: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that the element of `p` gives, else 0; of p's shape and dtype."""
    if p.numel() and not (0 <= float(p._data.min()) and float(p._data.max()) <= 1):
        raise ValueError("bernoulli: probabilities must lie in [0, 1]")
    return wrap((numpy_generator(generator).random(p.shape) < p._data).astype(p.dtype))


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


__all__ = [
    "arange", "as_tensor", "asarray", "bernoulli", "empty", "empty_like", "eye", "from_dlpack", "from_numpy", "full", "full_like",
    "linspace", "normal", "ones", "ones_like", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm",
    "tensor", "zeros", "zeros_like",
]  # fmt: skip
