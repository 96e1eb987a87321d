"""The IDX format of MNIST: big-endian magic (0, 0, type, axes), one 32-bit size an axis, then the values.

Source: http://yann.lecun.com/exdb/mnist/ (section "FILE FORMATS").
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from .datasets import DatasetError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_BYTES = 1 << 33  # a header may claim anything; nothing larger than this is believed


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, gzipped or not, in native byte order.

    DatasetError, which names the file, for a wrong magic number, sizes that do not match the length, or a broken gzip stream;
    nothing larger than the header claims is ever read.
    """
    path = Path(path)
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
                raise DatasetError(
                    f"{path}: not an IDX file: the first bytes are {head.hex(' ') or 'missing'}, expected 00 00, a type code, axes"
                )
            axes = head[3]
            sizes_raw = file.read(4 * axes)
            if len(sizes_raw) < 4 * axes:
                raise DatasetError(f"{path}: truncated: the header promises {axes} sizes")
            shape = struct.unpack(f">{axes}I", sizes_raw)
            dtype = np.dtype(_TYPES[head[2]])
            expected = math.prod(shape) * dtype.itemsize
            if expected > _MAX_BYTES:
                raise DatasetError(
                    f"{path}: the header claims shape {shape}, {expected} bytes, which is more than this reader accepts"
                )
            body = file.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise DatasetError(f"{path}: no such file") from None
        raise DatasetError(f"{path}: cannot be read: {error}") from None
    if len(body) < expected:
        raise DatasetError(
            f"{path}: truncated: shape {shape} of {dtype.name} needs {expected} bytes, only {len(body)} are there"
        )
    if len(body) > expected:
        raise DatasetError(f"{path}: trailing bytes after the {expected} that shape {shape} of {dtype.name} needs")
    try:
        array = np.frombuffer(body, dtype).reshape(shape)
    except ValueError as error:  # more axes than NumPy has, or sizes beside an empty axis that it cannot count
        raise DatasetError(f"{path}: no array has the shape {shape} that the header claims: {error}") from None
    return array.astype(dtype.newbyteorder("="))


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes `array` (uint8, int8, int16, int32, float32 or float64) as IDX, gzipped if the name ends in .gz."""
    codes = {np.dtype(v).newbyteorder("="): k for k, v in _TYPES.items()}
    if array.dtype not in codes:
        raise TypeError(f"write_idx: dtype {array.dtype} has no IDX code; use one of {', '.join(str(d) for d in codes)}")
    header = bytes([0, 0, codes[array.dtype], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    payload = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    if str(path).endswith(".gz"):
        payload = gzip.compress(payload, mtime=0)
    from ..files import write_atomically

    write_atomically(Path(path), payload)
