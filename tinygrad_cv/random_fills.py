"""Tensor methods that fill a tensor with random numbers in place: `x.uniform_(-1, 1)`, `x.bernoulli_(0.5)`, ...

They draw from the package's generator (see random.py) unless given one of their own, and obey the rules of every in-place write:
a leaf that requires grad needs `no_grad`, memory that backward still needs is refused. No gradient reaches the old values or
the parameters of a distribution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .random import Generator, numpy_generator

if TYPE_CHECKING:
    from ._tensor import Tensor


def _fill(name: str, tensor: Any, draw: Any) -> Any:
    """Writes draw(shape) into the tensor, once it is certain that it may be written."""
    from . import dispatch
    from ._tensor import wrap
    from .indexing import assign

    dispatch.check_writable(name, tensor)
    assign(tensor, ..., wrap(np.asarray(draw(tensor.shape)).astype(tensor.dtype)), name)
    return tensor


def _floating(name: str, tensor: Any) -> type[np.floating[Any]]:
    """The dtype that NumPy draws for a floating tensor; TypeError for others."""
    if tensor.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating tensor, got {tensor.dtype}")
    return np.float64 if tensor.dtype.itemsize == 8 else np.float32


def _require(name: str, condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"{name}: {what}")


def _probabilities(name: str, p: Any) -> np.ndarray:
    """Probabilities as an array in [0, 1]."""
    array = np.asarray(getattr(p, "_data", p))
    if hasattr(p, "_data") and array.dtype.kind != "f":
        raise TypeError(f"{name}: probabilities must be floating, got {array.dtype}")
    _require(name, bool(((array >= 0) & (array <= 1)).all()), "probabilities must lie in [0, 1]")
    return array


class RandomFills:
    """Mixed into Tensor. `self` is always a Tensor."""

    def uniform_(self: Any, from_: float = 0, to: float = 1, *, generator: Generator | None = None) -> Tensor:
        """Fills with numbers uniform on [from_, to). ValueError for from_ > to, TypeError for integers."""
        kind = _floating("uniform_", self)
        _require("uniform_", from_ <= to, f"the range must not be empty, got from {from_} to {to}")

        def draw(shape: Any) -> Any:
            return numpy_generator(generator).random(shape, dtype=kind) * kind(to - from_) + kind(from_)

        return _fill("uniform_", self, draw)  # type: ignore[no-any-return]

    def normal_(self: Any, mean: float = 0, std: float = 1, *, generator: Generator | None = None) -> Tensor:
        """Fills with normal numbers of this mean and standard deviation. ValueError for std < 0, TypeError for integers."""
        kind = _floating("normal_", self)
        _require("normal_", std >= 0, f"std must not be negative, got {std}")

        def draw(shape: Any) -> Any:
            return numpy_generator(generator).standard_normal(shape, dtype=kind) * kind(std) + kind(mean)

        return _fill("normal_", self, draw)  # type: ignore[no-any-return]

    def log_normal_(self: Any, mean: float = 1, std: float = 2, *, generator: Generator | None = None) -> Tensor:
        """Fills with exp(n), n normal of this mean and standard deviation. ValueError for std <= 0, TypeError for integers."""
        kind = _floating("log_normal_", self)
        _require("log_normal_", std > 0, f"std must be positive, got {std}")

        def draw(shape: Any) -> Any:
            return np.exp(numpy_generator(generator).standard_normal(shape, dtype=kind) * kind(std) + kind(mean))

        return _fill("log_normal_", self, draw)  # type: ignore[no-any-return]

    def exponential_(self: Any, lambd: float = 1, *, generator: Generator | None = None) -> Tensor:
        """Fills with numbers of density lambd exp(-lambd x), x > 0. ValueError for lambd <= 0, TypeError for integers."""
        kind = _floating("exponential_", self)
        _require("exponential_", lambd > 0, f"lambd must be positive, got {lambd}")

        def draw(shape: Any) -> Any:
            values = numpy_generator(generator).standard_exponential(shape, dtype=kind) / kind(lambd)
            return np.maximum(values, np.finfo(self.dtype).tiny)  # a rounded 0 would be outside the support

        return _fill("exponential_", self, draw)  # type: ignore[no-any-return]

    def cauchy_(self: Any, median: float = 0, sigma: float = 1, *, generator: Generator | None = None) -> Tensor:
        """Fills with numbers of density sigma / (pi (sigma^2 + (x - median)^2)). ValueError for sigma <= 0, TypeError for integers."""
        _floating("cauchy_", self)
        _require("cauchy_", sigma > 0, f"sigma must be positive, got {sigma}")
        return _fill("cauchy_", self, lambda s: median + sigma * numpy_generator(generator).standard_cauchy(s))  # type: ignore[no-any-return]

    def geometric_(self: Any, p: float, *, generator: Generator | None = None) -> Tensor:
        """Fills with the number of trials up to the first success, 1, 2, ...: P(k) = (1 - p)^(k - 1) p. ValueError unless 0 < p < 1."""
        _require("geometric_", 0 < p < 1, f"p must lie in (0, 1), got {p}")
        return _fill("geometric_", self, lambda s: numpy_generator(generator).geometric(p, s))  # type: ignore[no-any-return]

    def bernoulli_(self: Any, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
        """Fills with 1 with probability p, else 0, in any dtype. p: a number or a floating tensor that broadcasts to this shape."""
        chance = _probabilities("bernoulli_", p)
        try:
            fits = np.broadcast_shapes(chance.shape, self.shape) == self.shape
        except ValueError:
            fits = False
        _require("bernoulli_", fits, f"p of shape {chance.shape} does not broadcast to {self.shape}")
        return _fill("bernoulli_", self, lambda s: numpy_generator(generator).random(s) < chance)  # type: ignore[no-any-return]

    def random_(self: Any, from_: int | None = None, to: int | None = None, *, generator: Generator | None = None) -> Tensor:
        """Fills with integers uniform on [from_, to - 1]: random_(), random_(to) or random_(from_, to), in any dtype.

        Without `to`: all non-negative values of an integer dtype, 0 and 1 of bool, all integers up to 2^mantissa of a floating one.
        ValueError for from_ >= to and for bounds that the dtype does not hold.
        """
        dtype = self.dtype
        if dtype.kind == "f":
            most = 2 ** (np.finfo(dtype).nmant + 1)
            least = -most
        else:
            least, most = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        if any(not (b is None or isinstance(b, (int, np.integer))) for b in (from_, to)):
            raise TypeError(f"random_: the bounds must be integers, got {from_!r} and {to!r}")
        if to is None:
            from_, to = 0, most + 1 if from_ is None else from_
        from_ = 0 if from_ is None else from_
        _require("random_", from_ < to, f"from_ must be below to, got {from_} and {to}")
        _require("random_", least <= from_ and to - 1 <= most, f"{dtype} does not hold the integers from {from_} to {to - 1}")
        return _fill("random_", self, lambda s: numpy_generator(generator).integers(from_, to - 1, s, endpoint=True))  # type: ignore[no-any-return]

    def bernoulli(self: Any, p: Any = None, *, generator: Generator | None = None) -> Tensor:
        """1 with the probability that each element gives (or with probability p, if given), else 0; see `tinygrad_cv.bernoulli`."""
        from .creation import bernoulli

        return bernoulli(self, p, generator=generator)
