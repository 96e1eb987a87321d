"""How exactly convolutions are computed: a switch like PyTorch's `set_float32_matmul_precision`."""

from __future__ import annotations

from types import TracebackType

_LEVELS = ("highest", "high", "medium")
_level = "high"


class set_conv_precision:
    """Sets how float32 convolutions may be computed: at once as a call, and until the end of the block as a context manager.

        tg.set_conv_precision("medium")
        with tg.set_conv_precision("highest"): ...

    Convolutions with 3x3 kernels, stride 1, dilation 1 and one group, and their gradients, can do with fewer multiplications
    (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, arXiv:1509.09308). All others, and all in float64,
    are direct sums at every level.

    precision: one of

    - "highest": direct sums only.
    - "high", the default: F(2x2, 3x3), with 2.25 times fewer multiplications, where that is faster. Its errors are those of direct sums.
    - "medium": also F(4x4, 3x3), with 4 times fewer. Its errors are about twice those of direct sums in results and input gradients, and
      five times in weight gradients: enough for training and inference, hardly for float32 checks by finite differences.

    Errors in float32 against float64, of normal random numbers in 32x32 maps, in units of 1e-7: root mean square, relative to that of the
    result / largest, relative to the largest result.

    channels  of                direct       F(2x2)       F(4x4)
          16  output            2.1 / 4.4    1.6 / 2.1     4.7 / 9.3
          16  weight gradient   1.6 / 1.4    2.9 / 3.5     8.3 / 10
          64  output            4.2 / 9.4    2.6 / 3.1     7.6 / 17
          64  weight gradient   1.6 / 1.6    2.8 / 3.2     8.2 / 11
         256  output            8.4 / 19     4.9 / 6.0    14   / 30
         256  weight gradient   1.5 / 1.8    3.0 / 3.6     7.7 / 14
         512  output           12   / 29     6.9 / 9.1    20   / 56
         512  weight gradient   1.5 / 1.8    3.6 / 4.8     9.9 / 20

    An output may also carry the rounding of inputs next to those it depends on, which matters where a map holds very large and very small
    numbers side by side. Results that are not all finite are computed directly. At every level the same call gives the same bits on any
    number of threads. The level holds for all threads of the process. NumPy references (without Numba) are always direct sums.

    Raises ValueError for another name. `get_conv_precision` tells the level.
    """

    def __init__(self, precision: str) -> None:
        global _level
        if precision not in _LEVELS:
            raise ValueError(f"set_conv_precision: expected 'highest', 'high' or 'medium', got {precision!r}")
        self._before, _level = _level, precision

    def __enter__(self) -> set_conv_precision:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        global _level
        _level = self._before


def get_conv_precision() -> str:
    """The level that `set_conv_precision` last set: "highest", "high" or "medium"."""
    return _level


__all__ = ["get_conv_precision", "set_conv_precision"]
