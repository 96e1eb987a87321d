"""Weights and checkpoints: safetensors files with JSON metadata, written to a temporary file and renamed.

Nothing is ever unpickled. A file that is damaged in any way raises `CheckpointError` before any of it is used.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._tensor import Tensor, wrap

_METADATA_KEY = "tinygrad_cv"


class CheckpointError(ValueError):
    """A weights or checkpoint file that cannot be used; the message names the file and what is wrong with it."""


def write_atomically(path: Path, payload: bytes) -> None:
    """`payload` at `path`, all or nothing: a reader sees the old file or the new one, also after a crash.

    OSError, naming the place, if it cannot be written; no temporary file is left.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(f"cannot write {path}: {error.strerror or error}") from None
        raise


def save(tensors: Mapping[str, Tensor | np.ndarray], path: str | os.PathLike[str], metadata: Any = None) -> None:
    """Writes named tensors, and `metadata` (anything JSON can hold), as one safetensors file, atomically.

    TypeError for a value that is no tensor (such as a whole module: save `module.state_dict()`).
    """
    from safetensors.numpy import save as encode

    if not isinstance(tensors, Mapping):
        raise TypeError(
            f"save: expected a mapping of names to tensors, as module.state_dict() gives, got {type(tensors).__name__}"
        )
    arrays = {}
    for name, value in tensors.items():
        if not isinstance(value, (Tensor, np.ndarray)):
            raise TypeError(f"save: {name!r} is a {type(value).__name__}, expected a Tensor")
        arrays[name] = np.ascontiguousarray(value._data if isinstance(value, Tensor) else value).reshape(value.shape)
    header = {_METADATA_KEY: json.dumps(metadata, allow_nan=False)} if metadata is not None else None
    write_atomically(Path(path), encode(arrays, header))


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name. CheckpointError for a missing, damaged or foreign file."""
    return load_with_metadata(path)[0]


def load_with_metadata(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a safetensors file by name, and the metadata `save` stored with them (None if there is none)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as decode

    path = Path(path)
    try:
        with open(path, "rb") as file:
            prefix = file.read(8)
            size = path.stat().st_size
            if len(prefix) < 8:
                raise CheckpointError(f"{path}: truncated: {size} bytes is shorter than any safetensors file")
            (header_size,) = struct.unpack("<Q", prefix)
            if header_size > min(size - 8, 100_000_000):
                if prefix[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x93N"):
                    raise CheckpointError(
                        f"{path}: a pickle, zip or NumPy file, not safetensors; such files can run code and are refused"
                    )
                raise CheckpointError(
                    f"{path}: not a safetensors file, or damaged: it claims a header of {header_size} bytes in {size}"
                )
            payload = prefix + file.read()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        header = json.loads(payload[8 : 8 + header_size])
        arrays = decode(payload)
        stored = header.get("__metadata__", {}).get(_METADATA_KEY)
        metadata = None if stored is None else json.loads(stored)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged safetensors file: {error}") from None
    return {name: wrap(array if array.flags.writeable else array.copy()) for name, array in arrays.items()}, metadata
