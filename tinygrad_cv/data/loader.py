"""Batches of a data set: seeded order, optional prefetch in threads (never in forked processes)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..random import Generator, numpy_generator, using
from .samplers import BatchSampler, RandomSampler, SequentialSampler


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


def convert(example: Any) -> Any:
    """An example on its own: arrays as tensors, in tuples, lists and dicts part by part, everything else as it is."""
    if isinstance(example, (np.ndarray, np.generic)):
        return wrap(np.asarray(example))
    if isinstance(example, dict):
        return {key: convert(part) for key, part in example.items()}
    if isinstance(example, (tuple, list)):
        parts = [convert(part) for part in example]
        return parts if isinstance(example, list) else tuple(parts)
    return example


_BEYOND_BATCHES = (
    1 << 63
)  # batches have the seeds epoch_seed + 0, 1, ...; a sampler that draws late has one that none of them has


class DataLoader:
    """Iterates over `dataset` in batches.

    shuffle: a new order every epoch, drawn from `generator` or the default stream. sampler: an iterable of indices instead.
    batch_sampler: an iterable of lists of indices, one for each batch; excludes batch_size, shuffle, sampler and drop_last.
    batch_size=None: no batches but single examples, with arrays made tensors. drop_last: leave out a smaller last batch.
    collate_fn: how examples become a batch (for batch_size=None: what one example becomes); without one, a data set's own `batch`
    method is used where there is one.

    num_workers: threads that prepare batches ahead (0: none), each up to `prefetch_factor` (2); their number never changes the
    batches. timeout: seconds to wait for a batch of theirs, 0 without limit; then RuntimeError. worker_init_fn: called with
    0 ... num_workers - 1 before they start. pin_memory, pin_memory_device, persistent_workers, multiprocessing_context, in_order:
    taken for the sake of PyTorch's loops; there is nothing to pin, threads cost nothing to start, and batches come in order.

    ValueError for arguments that contradict each other or are out of range.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Sequence[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        if num_workers < 0 or timeout < 0:
            raise ValueError(f"DataLoader: num_workers and timeout must not be negative, got {num_workers} and {timeout}")
        if prefetch_factor is not None and (num_workers == 0 or prefetch_factor < 1):
            raise ValueError("DataLoader: prefetch_factor must be at least 1, and goes with num_workers > 0")
        if persistent_workers and num_workers == 0:
            raise ValueError("DataLoader: persistent_workers goes with num_workers > 0")
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler and shuffle exclude each other; a sampler decides the order itself")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError(
                "DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last; it decides all of them"
            )
        if batch_size is None and drop_last:
            raise ValueError("DataLoader: batch_size=None makes no batches, so there is no last one for drop_last")
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f"DataLoader: batch_size must be an integer of at least 1, or None, got {batch_size!r}")
        if sampler is None:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is not None:
            batch_size = None
        elif batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset, self.batch_size, self.drop_last, self.generator = dataset, batch_size, drop_last, generator
        self.sampler, self.batch_sampler, self.collate_fn = sampler, batch_sampler, collate_fn
        self.num_workers, self.prefetch_factor, self.timeout = num_workers, prefetch_factor or 2, timeout
        self.worker_init_fn = worker_init_fn

    def __len__(self) -> int:
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        indices = iter(self.sampler if self.batch_sampler is None else self.batch_sampler)
        epoch_seed = int(numpy_generator(self.generator).integers(0, 2**63))
        jobs = self._jobs(indices, epoch_seed)
        return (self._make(*job) for job in jobs) if self.num_workers == 0 else self._prefetched(jobs)

    def _jobs(self, indices: Iterator[Any], epoch_seed: int) -> Iterator[tuple[Any, int]]:
        """What to load next, and a seed for it. A sampler that draws as it goes must not mix with what the training draws."""
        stream = Generator(epoch_seed + _BEYOND_BATCHES)
        for number in count():
            with using(stream):
                try:
                    wanted = next(indices)
                except StopIteration:
                    return
            yield wanted, epoch_seed + number

    def _make(self, wanted: Any, seed: int) -> Any:
        with using(Generator(seed)):
            if self.batch_sampler is None:
                return (self.collate_fn or convert)(self.dataset[wanted])
            if self.collate_fn is None and hasattr(self.dataset, "batch"):
                return self.dataset.batch(np.asarray(wanted))
            return (self.collate_fn or collate)([self.dataset[i] for i in wanted])

    def _prefetched(self, jobs: Iterator[tuple[Any, int]]) -> Iterator[Any]:
        if self.worker_init_fn is not None:
            for number in range(self.num_workers):
                self.worker_init_fn(number)
        waiting: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="tinygrad_cv-loader")
        try:
            for job in jobs:
                waiting.append(pool.submit(self._make, *job))
                if len(waiting) >= self.num_workers * self.prefetch_factor:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            pool.shutdown(wait=not self.timeout, cancel_futures=True)

    def _result(self, future: Future[Any]) -> Any:
        if self.timeout and not wait([future], self.timeout).done:
            raise RuntimeError(f"DataLoader: no batch within the timeout of {self.timeout} seconds")
        return future.result()
