"""Batches of a data set: seeded order, optional prefetch in threads (never in forked processes)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..random import Generator, numpy_generator, using
from .datasets import Dataset


def collate(examples: Sequence[Any]) -> Any:
    """Examples stacked along a new first axis: tensors, arrays and numbers; tuples and dicts part by part."""
    first = examples[0]
    if isinstance(first, Tensor):
        shapes = {e.shape for e in examples}
        if len(shapes) > 1:
            raise ValueError(
                f"DataLoader: examples of different shapes cannot be stacked: {sorted(shapes)}; resize or crop them first"
            )
        return wrap(np.stack([e._data for e in examples]))
    if isinstance(first, np.ndarray):
        return wrap(np.stack(list(examples)))
    if isinstance(first, (bool, int, np.integer)):
        return wrap(np.asarray(examples, np.int64))
    if isinstance(first, (float, np.floating)):
        return wrap(np.asarray(examples, np.float32))
    if isinstance(first, dict):
        return {key: collate([e[key] for e in examples]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(collate(part) for part in zip(*examples, strict=True))
    return list(examples)


class DataLoader:
    """Iterates over `dataset` in batches.

    shuffle: a new order every epoch, drawn from `generator` or the default stream. drop_last: leave out a smaller last batch.
    num_workers: threads that prepare batches ahead (0: none); their number never changes the batches. collate_fn: how examples
    become a batch, for data sets without a `batch` method. pin_memory, persistent_workers: taken for the sake of PyTorch's loops;
    there is nothing to pin, and threads cost nothing to start.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        num_workers: int = 0,
        drop_last: bool = False,
        generator: Generator | None = None,
        collate_fn: Callable[[Sequence[Any]], Any] | None = None,
        prefetch_factor: int = 2,
        pin_memory: bool = False,
        persistent_workers: bool = False,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"DataLoader: batch_size must be an integer of at least 1, got {batch_size!r}")
        if num_workers < 0 or prefetch_factor < 1:
            raise ValueError("DataLoader: num_workers must not be negative and prefetch_factor must be at least 1")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.num_workers, self.prefetch_factor, self.generator = num_workers, prefetch_factor, generator
        self.collate_fn = collate_fn

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[Any]:
        rng = numpy_generator(self.generator)
        order = rng.permutation(len(self.dataset)) if self.shuffle else np.arange(len(self.dataset))
        epoch_seed = int(rng.integers(0, 2**63))
        jobs = [(order[i * self.batch_size : (i + 1) * self.batch_size], epoch_seed + i) for i in range(len(self))]
        if self.num_workers == 0:
            return (self._make(*job) for job in jobs)
        return self._prefetched(jobs)

    def _make(self, indices: np.ndarray, seed: int) -> Any:
        with using(Generator(seed)):
            if self.collate_fn is None and hasattr(self.dataset, "batch"):
                return self.dataset.batch(indices)
            return (self.collate_fn or collate)([self.dataset[int(i)] for i in indices])

    def _prefetched(self, jobs: list[tuple[np.ndarray, int]]) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        remaining = iter(jobs)
        with ThreadPoolExecutor(self.num_workers, thread_name_prefix="tinygrad_cv-loader") as pool:
            try:
                for job in remaining:
                    waiting.append(pool.submit(self._make, *job))
                    if len(waiting) >= self.num_workers * self.prefetch_factor:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
