"""Kernels where small arrays do not take them: work in shares, one for each thread, and sizes past blocks, vectors and tiles.

Drawn calls are small, so that every element can be differentiated, and small work is not shared out. `check_shares` makes the calls again
with every threshold of the CPU kernels at zero, on 1, 2 and all threads, and compares with the reference: what the first thread alone did
right, the others may not. `LARGE` has calls for the operators with kernels of their own structure, at sizes that no block divides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..domain import Call, NumpyDraw, call
from ..registry import Operator, get
from .checks import tolerance_of
from .samples import LAYOUTS, Sample, agree, contiguous, results

if TYPE_CHECKING:
    from . import OpResult

_THRESHOLDS = ("_SERIAL_BELOW", "_PARALLEL_ELEMENTS", "PARALLEL_FROM", "SMALLEST")
Maker = Callable[[np.random.Generator], Call]


@contextmanager
def everything_shared() -> Iterator[None]:
    """Inside the block, the kernels of `tinygrad_cv.ops.cpu` share out any work, however small, and however busy the machine is."""
    changed: list[tuple[Any, str, Any]] = []
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("tinygrad_cv.ops.cpu."):
            changed += [(module, name, vars(module)[name]) for name in _THRESHOLDS if name in vars(module)]
    if kernels.numba_available():
        from ..kernels import crowding

        changed.append((crowding.watch, "crowded", crowding.watch.crowded))
        crowding.watch.crowded = lambda now: False  # type: ignore[method-assign]
    for owner, name, _ in changed:
        if name in _THRESHOLDS:
            setattr(owner, name, 0)
    try:
        yield
    finally:
        for owner, name, value in changed:
            if name == "crowded":
                del owner.crowded
            else:
                setattr(owner, name, value)


def check_shares(sample: Sample, result: OpResult | None = None) -> None:
    """The operator against its reference with thresholds as they are, then with all work shared out on 1, 2 and all threads.

    Shares change no bit: the results on several threads equal those on one.
    """
    before = kernels.get_num_threads()
    for dtype in (np.float64, np.float32):
        arrays = sample.cast(dtype)
        with kernels.disabled():
            expected = sample.call_reference([contiguous(a) for a in arrays])
        tolerance = tolerance_of(sample, dtype)
        for name, make in {"contiguous": contiguous, **LAYOUTS}.items():
            values = [make(a) for a in arrays]
            agree(f"{name} inputs, {np.dtype(dtype)}", sample.call_function(values), expected, tolerance)
        try:
            with everything_shared():
                alone = None
                for n in sorted({1, min(2, _most()), _most()}):
                    kernels.set_num_threads(n)
                    for again in range(1 if n == 1 else 3):  # threads that write to one place do not always lose
                        # Memory is used again: what a share leaves out must not be the right result of the call before.
                        sample.call_function([contiguous(np.flip(a)) if a.dtype.kind == "f" else contiguous(a) for a in arrays])
                        got = sample.call_function([contiguous(a) for a in arrays])
                        agree(f"in shares, {n} threads, call {again}, {np.dtype(dtype)}", got, expected, tolerance)
                        alone = got if alone is None else alone
                        for one, other in zip(results(alone), results(got), strict=True):
                            assert one is None or np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), (
                                f"{n} threads give other bits than one, {np.dtype(dtype)}"
                            )
                        if result is not None:
                            result.count("shares")
        finally:
            kernels.set_num_threads(before)


def _most() -> int:
    from ..kernels import threads

    return threads.limit()


def check_large(operator: Operator | str, seed: int = 0, draws: int = 3, result: OpResult | None = None) -> None:
    """`check_shares` on the operator's calls in LARGE, and on `draws` calls of its domain; the call in REFUSED raises IndexError."""
    operator = get(operator) if isinstance(operator, str) else operator
    for i, made in enumerate(LARGE.get(operator.name, ())):
        check_shares(Sample(operator, made(np.random.default_rng([seed, i])), seed), result)
    if operator.name in REFUSED:
        beyond = Sample(operator, REFUSED[operator.name], seed)
        try:
            beyond.call_function(beyond.arrays)
        except IndexError:
            pass
        else:
            raise AssertionError(f"{operator.name}: an index just past the end was accepted\n{beyond.program()}")
    for i in range(draws):
        drawn = operator.domain(NumpyDraw(np.random.default_rng([seed, 1000 + i])))
        check_shares(Sample(operator, drawn, seed), result)


def _real(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.asarray(rng.uniform(-2, 2, shape))


def _reals(*shapes: tuple[int, ...], attributes: tuple[Any, ...] = (), **more: Any) -> Maker:
    """A call with real arrays of these shapes, then attributes."""
    return lambda rng: call(*[_real(rng, *s) for s in shapes], *attributes, **more)


def _convolution(images: tuple[int, ...], weight: tuple[int, ...], *attributes: Any) -> Maker:
    return lambda rng: call(_real(rng, *images), _real(rng, *weight) * 0.2, _real(rng, weight[0]), *attributes)


def _pieces(
    rng: np.random.Generator, sizes: tuple[int, ...], index: tuple[int, ...], high: int, *arrays: tuple[int, ...]
) -> Any:
    return _real(rng, *sizes), rng.integers(0, high, index), *[_real(rng, *s) for s in arrays]


def _gathered(axis: int) -> Maker:
    def made(rng: np.random.Generator) -> Call:
        sizes = (17, 9, 23)
        x, index = _pieces(rng, sizes, sizes, sizes[axis])
        return call(x, axis, index)

    return made


def _scattered(axis: int) -> Maker:
    def made(rng: np.random.Generator) -> Call:
        sizes = (17, 9, 23)
        x, index, source = _pieces(rng, sizes, sizes, sizes[axis], sizes)
        return call(x, axis, index, source)

    return made


def _selected(axis: int, added: bool) -> Maker:
    def made(rng: np.random.Generator) -> Call:
        sizes = [17, 9, 23]
        x, index = _pieces(rng, tuple(sizes), (31,), sizes[axis])
        sizes[axis] = 31
        return call(x, axis, index, _real(rng, *sizes), alpha=1.5) if added else call(x, axis, index)

    return made


def _entropy(rng: np.random.Generator, **options: Any) -> Call:
    target = rng.integers(0, 21, 33)
    target[4] = -100
    return call(_real(rng, 33, 21), target, rng.uniform(0.5, 2, 21) if options.pop("weighted", False) else None, **options)


def _entropy_backward(weighted: bool, reduction: str, smoothing: float) -> Maker:
    def made(rng: np.random.Generator) -> Call:
        target = rng.integers(0, 21, 33)
        target[4] = -100
        powers = np.exp(_real(rng, 33, 21))
        upstream = _real(rng, *((33,) if reduction == "none" else ()))
        weight = rng.uniform(0.5, 2, 21) if weighted else None
        return call(upstream, powers / powers.sum(1, keepdims=True), target, weight, -100, reduction, smoothing)

    return made


def _norm_backward(shape: tuple[int, ...], weight: int, mean: tuple[int, ...], *attributes: Any) -> Maker:
    def made(rng: np.random.Generator) -> Call:
        statistics = _real(rng, *mean), rng.uniform(0.5, 2, mean)
        return call(_real(rng, *shape), _real(rng, *shape), _real(rng, weight), *statistics, *attributes)

    return made


def _pool_indices(gathered: bool) -> Maker:
    def made(rng: np.random.Generator) -> Call:
        index = rng.integers(0, 13 * 17, (3, 4, 6, 8))
        return call(_real(rng, 3, 4, 13, 17), index, 2) if gathered else call(_real(rng, 3, 4, 6, 8), index, (13, 17))

    return made


def _taps(kind: str) -> Maker:
    def made(rng: np.random.Generator) -> Call:
        index, weights = rng.integers(0, 37, (3, 4, 45)), _real(rng, 3, 4, 45)
        grad, x = _real(rng, 3, 5, 45), _real(rng, 3, 5, 37)
        return {
            "sample": call(x, index, weights),
            "scatter": call(grad, index, weights, 37),
            "products": call(grad, x, index),
        }[kind]

    return made


def _embedded(backward: bool) -> Maker:
    def made(rng: np.random.Generator) -> Call:
        index = rng.integers(0, 29, (7, 11))
        if backward:
            return call(_real(rng, 7, 11, 13), index, 29, 3, True)
        return call(index, _real(rng, 29, 13), None, False)

    return made


_EVEN, _ODD = (3, 4, 12, 18), (3, 4, 13, 17)

LARGE: dict[str, tuple[Maker, ...]] = {
    "mm": (_reals((101, 530), (530, 570)), _reals((3, 70), (70, 41)), _reals((150, 37), (37, 1))),
    "bmm": (_reals((7, 33, 29), (7, 29, 41)), _reals((2, 130, 19), (2, 19, 67))),
    "addmm": (_reals((57, 83), (57, 40), (40, 83), beta=0.5, alpha=2.0),),
    "linear": (_reals((65, 70), (41, 70), (41,)), _reals((3, 70), (41, 70), (41,))),
    "conv1d": (_convolution((3, 6, 70), (8, 3, 5), (2,), (2,), (1,), 2),),
    "conv2d": (
        _convolution((2, 5, 19, 23), (13, 5, 3, 3), 1, 1),
        _convolution((2, 6, 19, 23), (8, 3, 5, 3), (2, 1), (2, 0), (1, 2), 2),
        _convolution((2, 16, 14, 15), (20, 16, 1, 1)),
        _convolution((2, 9, 17, 19), (18, 1, 3, 3), 2, 1, 1, 9),
        _convolution((2, 40, 22, 21), (36, 40, 3, 3), 1, 1),
    ),
    "conv3d": (_convolution((2, 3, 7, 8, 9), (5, 3, 3, 2, 3), (1, 2, 1), (1, 0, 1)),),
    "conv_transpose2d": (
        lambda rng: call(
            _real(rng, 2, 5, 9, 11), _real(rng, 5, 7, 3, 4) * 0.2, _real(rng, 7), (2, 3), (1, 0), (1, 2), 1, (1, 1)
        ),
    ),
    "conv_input_grad": (
        _reals((2, 13, 19, 23), (13, 5, 3, 3), attributes=((19, 23), (1, 1), (1, 1), (1, 1), 1)),
        _reals((2, 8, 9, 12), (8, 3, 3, 3), attributes=((19, 25), (2, 2), (0, 0), (1, 1), 2)),
        _reals((2, 40, 22, 21), (40, 36, 3, 3), attributes=((22, 21), (1, 1), (1, 1), (1, 1), 1)),
    ),
    "conv_weight_grad": (
        _reals((2, 13, 19, 23), (2, 5, 19, 23), attributes=((3, 3), (1, 1), (1, 1), (1, 1), 1)),
        _reals((2, 8, 9, 12), (2, 6, 19, 25), attributes=((3, 3), (2, 2), (0, 0), (1, 1), 2)),
        _reals((3, 18, 9, 10), (3, 9, 17, 19), attributes=((3, 3), (2, 2), (1, 1), (1, 1), 9)),
        _reals((3, 8, 17, 19), (3, 8, 17, 19), attributes=((3, 3), (1, 1), (1, 1), (1, 1), 8)),
        _reals((2, 40, 22, 21), (2, 36, 22, 21), attributes=((3, 3), (1, 1), (1, 1), (1, 1), 1)),
    ),
    "batch_norm_with_statistics": (
        _reals((5, 7, 9, 11), (7,), (7,)),
        _reals((131, 67), (67,), (67,)),
        _reals((1030, 9), (9,), (9,)),
    ),
    "batch_norm_backward": (
        _norm_backward((5, 7, 9, 11), 7, (7,), 0.1),
        _norm_backward((131, 67), 67, (67,), 0.1),
        _norm_backward((1030, 9), 9, (9,), 0.1),
    ),
    "layer_norm_with_statistics": (_reals((37, 131), (131,), (131,), axes=1), _reals((70, 9), (9,), (9,), axes=1)),
    "layer_norm_backward": (_norm_backward((37, 131), 131, (37,), 1, 0.1), _norm_backward((700, 9), 9, (700,), 1, 0.1)),
    "group_norm_with_statistics": (_reals((5, 12, 7, 9), (12,), (12,), groups=3),),
    "group_norm_backward": (_norm_backward((5, 12, 7, 9), 12, (5, 3), 3, 0.1),),
    "softmax": (_reals((33, 131), attributes=(1,)), _reals((33, 131), attributes=(0,))),
    "softmax_backward": (_reals((33, 131), (33, 131), attributes=(1,)),),
    "log_softmax": (_reals((33, 131), attributes=(1,)), _reals((33, 131), attributes=(0,))),
    "log_softmax_backward": (_reals((33, 131), (33, 131), attributes=(1,)),),
    "softmax_cross_entropy": (
        lambda rng: _entropy(rng, weighted=True, reduction="none", label_smoothing=0.2),
        lambda rng: _entropy(rng, weighted=True),
        lambda rng: _entropy(rng, reduction="sum"),
    ),
    "softmax_cross_entropy_backward": (
        _entropy_backward(True, "none", 0.2),
        _entropy_backward(True, "mean", 0.0),
        _entropy_backward(False, "sum", 0.3),
    ),
    "sum": (
        _reals((3, 700, 40), attributes=(1,)),
        _reals((1500, 24), attributes=(0,)),
        _reals((90, 1100), attributes=(0,)),
        _reals((5, 40, 70), attributes=(1,)),
        _reals((170, 133), attributes=(1,)),
        _reals((7, 1900), attributes=(1,)),
        _reals((5, 6, 700), attributes=((0, 2),)),
        _reals((9000,)),
    ),
    "max_pool2d_with_indices": (
        _reals(_EVEN, attributes=((2, 2), (2, 2))),
        _reals(_ODD, attributes=((3, 2), (2, 1), (1, 0), (1, 2), True)),
    ),
    "max_pool_input_grad": (_pool_indices(False),),
    "max_pool_gather": (_pool_indices(True),),
    "avg_pool2d": (_reals(_ODD, attributes=((3, 2), (2, 1), (1, 1), True, False)),),
    "avg_pool_input_grad": (_reals((3, 4, 6, 8), attributes=((13, 17), (3, 3), (2, 2), (0, 0), False, True, None)),),
    "adaptive_avg_pool2d": (_reals(_ODD, attributes=((5, 7),)),),
    "adaptive_max_pool2d_with_indices": (_reals(_ODD, attributes=((5, 7),)),),
    "dropout_with_mask": (_reals((37, 131), attributes=(0.3,)),),
    "gather": tuple(map(_gathered, range(3))),
    "scatter_add": tuple(map(_scattered, range(3))),
    "index_select": tuple(_selected(axis, False) for axis in range(3)),
    "index_add": tuple(_selected(axis, True) for axis in range(3)),
    "interpolate_axis": tuple(
        _reals((7, 19, 23), attributes=(axis, 31, kind, False, None)) for axis in (1, 2) for kind in ("linear", "cubic")
    ),
    "interpolate_axis_backward": tuple(_reals((7, 19, 23), attributes=(axis, 11, "linear", True, None)) for axis in (1, 2)),
    "sample_taps": (_taps("sample"),),
    "scatter_taps": (_taps("scatter"),),
    "tap_products": (_taps("products"),),
    "embedding_lookup": (_embedded(False),),
    "embedding_backward": (_embedded(True),),
}

REFUSED: dict[str, Call] = {  # the last index is the number of elements of a plane
    "max_pool_input_grad": call(np.ones((1, 2, 2)), np.array([[[0, 1], [2, 4]]]), (2, 2)),
    "max_pool_gather": call(np.ones((1, 2, 2)), np.array([[[0, 1], [2, 4]]]), 2),
}

__all__ = ["LARGE", "REFUSED", "check_large", "check_shares", "everything_shared"]
