"""The arrays of a page: each stored once, small ones as numbers, large ones as base64, the largest as a part with statistics."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

AS_NUMBERS = 64  # elements
WHOLE = 65_536  # elements of one array that are stored whole, as long as all arrays together stay within TOTAL
TOTAL = 800_000  # elements: about 4 MB as base64
BINS = 30
PICTURES = 800_000  # bytes of all pictures together: about 1.1 MB as base64
_PICTURE_SIZES = (  # most planes, most rows and columns of each
    (16, 64), (16, 56), (8, 56), (6, 56), (5, 56), (4, 56), (3, 56), (3, 40), (3, 32), (3, 24), (1, 16),
)  # fmt: skip
_LEVELS = 254  # of a picture; 255 stands for an element that is not finite


class ArrayTable:
    """Numbers arrays as they are added; arrays with the same shape, dtype and bytes share a number."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def add(self, array: np.ndarray | None, optional: bool = False) -> int | None:
        """The number of `array`, None for none. optional: left out where it is large, since other arrays say the same."""
        if array is None or (optional and array.size > WHOLE // 4):
            return None
        array = np.asarray(array)
        key = (array.shape, str(array.dtype), array.tobytes())
        if key not in self._known:
            self._known[key] = len(self._arrays)
            self._arrays.append(array)
        return self._known[key]

    def encoded(self) -> list[dict[str, Any]]:
        """All arrays as JSON can hold them. Where they are too many, the largest keep only their first elements along every axis."""
        limit = WHOLE
        while sum(min(a.size, limit) for a in self._arrays) > TOTAL and limit > 256:
            limit //= 2
        cut = [a for a in self._arrays if _wants_picture(a.shape, leading_block(a.shape, limit))]
        sizes = next(
            (s for s in _PICTURE_SIZES if sum(math.prod(p[0]) for p in (_planes(a.shape, *s) for a in cut)) <= PICTURES), None
        )
        return [_encode(a, limit, sizes) for a in self._arrays]


def _encode(array: np.ndarray, limit: int, sizes: tuple[int, int] | None) -> dict[str, Any]:
    encoded: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.size <= AS_NUMBERS:
        encoded["numbers"] = [number(v) for v in array.reshape(-1)]
        return encoded
    stored = leading_block(array.shape, limit)
    part = array[tuple(slice(0, n) for n in stored)]
    kind = _encoding(array)
    encoded["encoding"] = kind
    encoded["data"] = base64.b64encode(np.ascontiguousarray(part, np.dtype(kind).newbyteorder("<")).tobytes()).decode()
    encoded["stored"] = list(stored)
    encoded.update(_summary(array))
    if sizes is not None and _wants_picture(array.shape, stored):
        encoded["picture"] = _picture(array, *sizes)
    return encoded


def _wants_picture(shape: tuple[int, ...], stored: tuple[int, ...]) -> bool:
    """Whether the stored block cuts the planes of the last two axes, or leaves out channels that are worth looking at."""
    if len(shape) < 2 or stored == shape:
        return False
    return stored[-2:] != shape[-2:] or (len(shape) > 2 and min(shape[-2:]) >= 4 and stored[-3] < min(shape[-3], 16))


def _planes(shape: tuple[int, ...], most_planes: int, most: int) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """(planes, rows, columns) of the picture of an array, and every how many rows and columns it takes one."""
    steps = tuple(-(-n // most) for n in shape[-2:])
    if max(shape[-2:]) <= 4 * min(shape[-2:]):  # as wide as high, more or less: keep its proportions
        steps = (max(steps), max(steps))
    planes = min(shape[-3], most_planes) if len(shape) > 2 else 1
    return (planes, -(-shape[-2] // steps[0]), -(-shape[-1] // steps[1])), (steps[0], steps[1])


def _picture(array: np.ndarray, most_planes: int, most: int) -> dict[str, Any]:
    """Every k-th row and column of the first planes of the first example, as levels from `low` (0) to `high` (254)."""
    stored, steps = _planes(array.shape, most_planes, most)
    first = array[(0,) * max(array.ndim - 3, 0)].reshape(-1, *array.shape[-2:])
    part = first[: stored[0], :: steps[0], :: steps[1]].astype(np.float64)
    finite = np.isfinite(part)
    largest = float(np.abs(part[finite]).max()) if finite.any() else 0.0
    low = -largest if (part[finite] < 0).any() else 0.0
    share = np.where(finite, part, low) / (largest or 1.0)  # -1..1 or 0..1
    levels = np.rint((share + 1) * (_LEVELS / 2) if low < 0 else share * _LEVELS)
    data = np.where(finite, levels, 255).astype(np.uint8).tobytes()
    return {"stored": list(stored), "steps": list(steps), "low": low, "high": largest, "data": base64.b64encode(data).decode()}


def _encoding(array: np.ndarray) -> str:
    if array.dtype == np.float64:
        return "float64"
    if array.dtype.kind == "f":
        return "float32"
    if array.dtype.kind == "b":
        return "int32"
    info = np.iinfo(np.int32)
    return "int32" if array.min() >= info.min and array.max() <= info.max else "float64"


def leading_block(shape: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """The extents to store: first examples fewer, then channels, then rows; a matrix loses rows and columns alike."""
    stored = list(shape)
    if len(shape) == 2:
        while math.prod(stored) > limit:
            longest = 0 if stored[0] >= stored[1] else 1
            stored[longest] = -(-stored[longest] // 2)
        return tuple(stored)
    for axis in range(len(stored)):
        size = math.prod(stored)
        if size <= limit:
            break
        stored[axis] = max(1, limit // (size // stored[axis]))
    return tuple(stored)


def number(value: Any) -> float | int | str:
    """A NumPy number as JSON can hold it: the shortest decimal that is the same number in its own dtype."""
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return int(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    shortest = float(str(value)) if not isinstance(value, float) else float(value)
    return 0.0 if shortest == 0 else shortest


def _summary(array: np.ndarray) -> dict[str, Any]:
    """Statistics and histogram of the whole array, stored or not: of its finite elements, but for the norm, which is of all."""
    flat = array.reshape(-1).astype(np.float64)
    finite = flat[np.isfinite(flat)]
    missing = {"nan": int(np.isnan(flat).sum()), "infinite": int(np.isinf(flat).sum())}
    if not finite.size:
        empty = {"minimum": 0.0, "maximum": 0.0, "mean": 0.0, "deviation": 0.0, "norm": number(norm(flat)), "zeros": 0}
        return {"stats": {**empty, **missing}, "histogram": [0] * BINS}
    low, high = float(finite.min()), float(finite.max())
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(finite.mean()), float(finite.std())
    statistics = {
        "minimum": low,
        "maximum": high,
        "mean": mean,
        "deviation": deviation,
        "norm": norm(flat),
        "zeros": int((finite == 0).sum()),
        **missing,
    }
    counts = _counts(finite, low, high)
    return {"stats": {k: number(_rounded(v)) for k, v in statistics.items()}, "histogram": counts}


def _counts(finite: np.ndarray, low: float, high: float) -> list[int]:
    width = (high - low) / BINS
    if not (width > 0 and math.isfinite(width)):
        return [int(finite.size), *[0] * (BINS - 1)]
    bins = np.minimum(((finite - low) / width).astype(np.int64), BINS - 1)
    return [int(c) for c in np.bincount(bins, minlength=BINS)]


def norm(array: np.ndarray) -> float:
    """The Euclidean norm in double precision, safe from overflow: NaN where an element is NaN, infinity where one is infinite."""
    flat = np.asarray(array, np.float64).reshape(-1)
    largest = float(np.abs(flat).max()) if flat.size else 0.0  # NaN, if there is one
    if not math.isfinite(largest):
        return largest
    return largest * math.sqrt(float(np.square(flat / largest).sum())) if largest > 0 else 0.0


def _rounded(value: float) -> float:
    """Six digits are more than anybody reads, and the same on every machine."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
