"""Which examples a DataLoader takes, and in what order: iterables of indices, with PyTorch's names and arguments.

A sampler draws its random numbers when iteration begins, from its `generator` or the default stream, so one seed fixes a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..random import Generator, numpy_generator


class Sampler:
    """Base of samplers: define `__iter__`, giving indices (or, for `batch_sampler`, lists of them), and `__len__`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} does not define __len__, so the number of its batches is not known")


def _at_least_one(name: str, what: str, value: Any) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: {what} must be an integer of at least 1, got {value!r}")
    return int(value)


def _flag(name: str, what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: {what} must be True or False, got {value!r}")
    return value


class SequentialSampler(Sampler):
    """0, 1, ..., len(data_source) - 1."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """The indices of `data_source` in a new random order every time.

    replacement: draw every index independently instead. num_samples: how many to draw (default: the length); without replacement,
    more than the length are one order after the other. ValueError for num_samples below 1.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = _flag("RandomSampler", "replacement", replacement)
        self._num_samples = None if num_samples is None else _at_least_one("RandomSampler", "num_samples", num_samples)
        self.generator = generator

    @property
    def num_samples(self) -> int:
        """How many indices one pass gives."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        rng, count, wanted = numpy_generator(self.generator), len(self.data_source), self.num_samples
        if wanted and not count:
            raise ValueError(f"RandomSampler: cannot draw {wanted} samples from an empty data source")
        if self.replacement:
            return iter(rng.integers(0, count, wanted).tolist() if wanted else [])
        orders = [rng.permutation(count) for _ in range(-(-wanted // count))] if wanted else []
        return iter(np.concatenate(orders)[:wanted].tolist() if orders else [])

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The given indices in a new random order every time."""

    def __init__(self, indices: Sequence[int] | np.ndarray | Tensor, generator: Generator | None = None) -> None:
        self.indices = indices.tolist() if isinstance(indices, (np.ndarray, Tensor)) else indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        order = numpy_generator(self.generator).permutation(len(self.indices)).tolist()
        return iter([self.indices[i] for i in order])

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """`num_samples` indices into `weights`, i with probability weights[i] / sum(weights).

    replacement: every draw is independent; otherwise no index comes twice. weights: (N,), not negative, finite, not all 0; need not
    add up to 1. ValueError otherwise, and for more samples without replacement than there are weights above 0.
    """

    def __init__(
        self,
        weights: Sequence[float] | np.ndarray | Tensor,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        name = "WeightedRandomSampler"
        self.num_samples = _at_least_one(name, "num_samples", num_samples)
        self.replacement = _flag(name, "replacement", replacement)
        array = np.asarray(weights._data if isinstance(weights, Tensor) else weights, np.float64)
        if array.ndim != 1:
            raise ValueError(f"{name}: weights must be one number for each example, shape (N,), got shape {array.shape}")
        if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
            raise ValueError(f"{name}: weights must be finite and not negative, and not all 0")
        if not self.replacement and self.num_samples > np.count_nonzero(array):
            raise ValueError(
                f"{name}: cannot draw {self.num_samples} samples without replacement from {np.count_nonzero(array)} weights above 0"
            )
        self.weights = array
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        rng, shares = numpy_generator(self.generator), self.weights / self.weights.sum()
        return iter(rng.choice(len(shares), self.num_samples, replace=self.replacement, p=shares).tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Lists of `batch_size` indices from `sampler`. drop_last: leave out a smaller last one."""

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        self.sampler = sampler
        self.batch_size = _at_least_one("BatchSampler", "batch_size", batch_size)
        self.drop_last = _flag("BatchSampler", "drop_last", drop_last)

    def __iter__(self) -> Iterator[list[Any]]:
        return self._batches(iter(self.sampler))  # begun here, not at the first batch: this is when a sampler draws

    def _batches(self, indices: Iterator[Any]) -> Iterator[list[Any]]:
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return full + (1 if rest and not self.drop_last else 0)
