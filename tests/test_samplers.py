"""Samplers, and the DataLoader that takes them: PyTorch's arguments and rules, the package's seeds."""

import itertools

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import data
from tinygrad_cv.data import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler

NUMBERS = data.TensorDataset(tg.arange(20))


def taken(loader):
    return [batch[0].tolist() for batch in loader]


def test_sequential_and_batches():
    assert list(SequentialSampler("abc")) == [0, 1, 2] and len(SequentialSampler("abc")) == 3
    assert list(BatchSampler(SequentialSampler(range(10)), 3, False)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert list(BatchSampler(SequentialSampler(range(10)), 3, True)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert [len(BatchSampler(range(10), 3, drop)) for drop in (False, True)] == [4, 3]
    assert list(BatchSampler([], 3, False)) == [] and list(BatchSampler(iter("abc"), 2, False)) == [["a", "b"], ["c"]]


def test_random_orders_are_permutations_that_the_seed_fixes():
    sampler = RandomSampler(range(10), generator=tg.Generator(3))
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert list(RandomSampler(range(10), generator=tg.Generator(3))) == first
    more = list(RandomSampler(range(4), num_samples=10))
    assert len(more) == 10 and sorted(more[:4]) == sorted(more[4:8]) == [0, 1, 2, 3] and len(set(more[8:])) == 2
    fewer = RandomSampler(range(10), num_samples=4)
    assert len(fewer) == 4 and len(set(fewer)) == 4
    drawn = np.bincount(list(RandomSampler(range(4), replacement=True, num_samples=4000)), minlength=4)
    assert drawn.sum() == 4000 and abs(drawn - 1000).max() < 150  # more than five standard deviations of 27
    chosen = list(SubsetRandomSampler([7, 3, 11]))
    assert sorted(chosen) == [3, 7, 11] and sorted(SubsetRandomSampler(tg.tensor([7, 3]))) == [3, 7]


def test_weighted_draws_follow_the_weights():
    sampler = WeightedRandomSampler([1.0, 0.0, 3.0], 4000, generator=tg.Generator(0))
    counts = np.bincount(list(sampler), minlength=3)
    assert len(sampler) == 4000 and counts[1] == 0 and abs(counts[2] - 3000) < 150
    assert sorted(WeightedRandomSampler(tg.tensor([0.5, 0.0, 2.0]), 2, replacement=False)) == [0, 2]


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: RandomSampler(range(3), num_samples=0), ValueError, "RandomSampler: num_samples must be an integer of at least 1"),
    (lambda: RandomSampler(range(3), replacement=1), TypeError, "replacement must be True or False"),
    (lambda: list(RandomSampler([], num_samples=2)), ValueError, "cannot draw 2 samples from an empty"),
    (lambda: WeightedRandomSampler([1.0], 0), ValueError, "num_samples must be an integer of at least 1, got 0"),
    (lambda: WeightedRandomSampler([[1.0]], 1), ValueError, r"shape \(N,\), got shape \(1, 1\)"),
    (lambda: WeightedRandomSampler([1.0, -1.0], 1), ValueError, "not negative"),
    (lambda: WeightedRandomSampler([0.0, 0.0], 1), ValueError, "not all 0"),
    (lambda: WeightedRandomSampler([1.0, 0.0], 2, replacement=False), ValueError, "cannot draw 2 samples without replacement from 1"),
    (lambda: BatchSampler(range(3), 0, False), ValueError, "BatchSampler: batch_size must be an integer of at least 1"),
    (lambda: BatchSampler(range(3), 2, "no"), TypeError, "drop_last must be True or False"),
])  # fmt: skip
def test_wrong_samplers_are_refused_by_name(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_sampler_decides_the_order():
    assert taken(data.DataLoader(NUMBERS, 2, sampler=[5, 1, 9])) == [[5, 1], [9]]
    loader = data.DataLoader(NUMBERS, 4, sampler=SubsetRandomSampler(range(10, 20), tg.Generator(1)), drop_last=True)
    assert len(loader) == 2 and all(10 <= v < 20 for batch in loader for v in batch[0].tolist())
    batches = data.DataLoader(NUMBERS, batch_sampler=[[0, 3], [7], [1, 2, 4]])
    assert len(batches) == 3 and taken(batches) == [[0, 3], [7], [1, 2, 4]] and batches.batch_size is None
    assert isinstance(data.DataLoader(NUMBERS, shuffle=True).sampler, RandomSampler)
    assert isinstance(data.DataLoader(NUMBERS).batch_sampler, BatchSampler)


def test_shuffling_is_a_random_sampler_with_the_same_seed():
    def order(**options):
        tg.manual_seed(4)
        return taken(data.DataLoader(NUMBERS, **options))

    shuffled = order(batch_size=6, shuffle=True)
    assert shuffled == order(batch_size=6, sampler=RandomSampler(NUMBERS))
    assert shuffled == order(batch_sampler=BatchSampler(RandomSampler(NUMBERS), 6, False))


def test_batch_size_none_gives_single_converted_examples():
    class Pairs(data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {"image": np.full(2, index, np.float32), "label": index, "more": [np.int64(index), ("a", np.zeros(1))]}

    loader = data.DataLoader(Pairs(), batch_size=None, sampler=[2, 0])
    first, second = loader
    assert len(loader) == 2 and loader.batch_sampler is None
    assert first["image"].tolist() == [2.0, 2.0] and first["image"].dtype == tg.float32
    assert first["label"] == 2 and type(first["label"]) is int
    assert isinstance(first["more"][0], tg.Tensor) and first["more"][1][0] == "a" and isinstance(first["more"][1], tuple)
    assert second["label"] == 0
    assert list(data.DataLoader(range(3), batch_size=None, collate_fn=lambda x: x * 10)) == [0, 10, 20]
    whole = data.DataLoader(NUMBERS, batch_size=None, sampler=BatchSampler(SequentialSampler(NUMBERS), 8, False))
    assert taken(whole) == taken(data.DataLoader(NUMBERS, 8))


@pytest.mark.parametrize("options", [
    {"sampler": [1], "shuffle": True}, {"batch_sampler": [[1]], "batch_size": 2}, {"batch_sampler": [[1]], "shuffle": True},
    {"batch_sampler": [[1]], "sampler": [1]}, {"batch_sampler": [[1]], "drop_last": True}, {"batch_size": None, "drop_last": True},
    {"prefetch_factor": 2}, {"prefetch_factor": 0, "num_workers": 1}, {"persistent_workers": True}, {"timeout": -1},
    {"batch_size": 2.5},
])  # fmt: skip
def test_contradictory_arguments_are_refused_naming_them(options):
    with pytest.raises(ValueError) as caught:
        data.DataLoader(NUMBERS, **options)
    assert str(caught.value).startswith("DataLoader: ") and all(n in str(caught.value) for n in list(options)[:1])


def test_pytorch_refuses_the_same():
    torch = pytest.importorskip("torch")
    for options in (
        {"sampler": [1], "shuffle": True},
        {"batch_sampler": [[1]], "drop_last": True},
        {"batch_size": None, "drop_last": True},
    ):
        with pytest.raises(ValueError):
            torch.utils.data.DataLoader(range(4), **options)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_sampler_that_draws_as_it_goes_does_not_mix_with_the_training(workers):
    """What the sampler yields and what the loop draws from the default stream are the same for any number of threads."""

    class Drawing(data.Sampler):
        def __iter__(self):
            for _ in range(9):
                yield int(tg.randint(0, 20, ()).item())

        def __len__(self):
            return 9

    def run(n):
        tg.manual_seed(11)
        return [
            (batch[0].tolist(), tg.rand(1).item()) for batch in data.DataLoader(NUMBERS, 2, sampler=Drawing(), num_workers=n)
        ]

    assert run(workers) == run(0)


def test_an_endless_sampler_is_taken_as_needed():
    class Endless(data.Sampler):
        def __iter__(self):
            return itertools.cycle(range(3))

    loader = data.DataLoader(NUMBERS, 2, sampler=Endless(), num_workers=2)
    assert [b[0].tolist() for b in itertools.islice(loader, 4)] == [[0, 1], [2, 0], [1, 2], [0, 1]]
    with pytest.raises(TypeError, match="Endless does not define __len__"):
        len(loader)


def test_timeout_and_worker_init():
    import threading

    release, started = threading.Event(), []

    class Stuck(data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            release.wait(10)
            return index

    loader = data.DataLoader(Stuck(), num_workers=2, timeout=0.05, worker_init_fn=started.append)
    with pytest.raises(RuntimeError, match=r"no batch within the timeout of 0\.05 seconds"):
        next(iter(loader))
    release.set()
    assert started == [0, 1]


def test_a_resumed_run_with_a_weighted_sampler_equals_an_uninterrupted_one(tmp_path):
    from tinygrad_cv import nn, optim, train

    def fit(directory, epochs, resume=False):
        tg.manual_seed(0)
        model = nn.Linear(1, 2)
        points = data.TensorDataset(tg.arange(20, dtype=tg.float32).reshape(20, 1) / 20, tg.arange(20) % 2)
        loader = data.DataLoader(points, 4, sampler=WeightedRandomSampler(np.arange(20.0), 20))
        trainer = train.Trainer(
            model, optim.Adam(model.parameters()), nn.functional.cross_entropy, directory=directory, progress=False
        )
        trainer.fit(loader, epochs, resume=resume)
        return [p.tolist() for p in model.parameters()]

    whole = fit(tmp_path / "whole", 3)
    fit(tmp_path / "parts", 1)
    assert fit(tmp_path / "parts", 3, resume=True) == whole
