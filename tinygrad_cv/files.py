"""Weights and checkpoints: safetensors files with JSON metadata, written to a temporary file and renamed.

Nothing is ever unpickled. A file that is damaged in any way raises `CheckpointError` before any of it is used.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np

from ._tensor import Tensor, wrap
from .devices import as_device

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


def save(obj: Any, f: str | os.PathLike[str] | IO[bytes], metadata: Any = None) -> None:
    """Writes `obj` as one safetensors file, atomically, or into the binary file object `f`.

    A mapping of names to tensors, such as `module.state_dict()`, becomes a plain safetensors file that any program reads, with
    `metadata` (anything JSON can hold) beside it. Any other nest of dicts, lists and tuples of tensors, numbers and strings, such
    as {"epoch": 3, "model": ..., "optimizer": optimizer.state_dict()}, has its structure in the header.

    TypeError, naming the place, for anything else (such as a whole module: save `module.state_dict()`).
    """
    if isinstance(obj, Mapping) and all(isinstance(k, str) and isinstance(v, _ARRAYS) for k, v in obj.items()):
        payload = _encode(obj, metadata)
    else:
        if metadata is not None:
            raise TypeError("save: metadata goes with a mapping of names to tensors; put it into the saved object")
        payload = _encode(*pack(obj, "save"))
    if hasattr(f, "write"):
        f.write(payload)
    else:
        write_atomically(Path(f), payload)


_ARRAYS = (Tensor, np.ndarray)


def _encode(tensors: Mapping[str, Any], metadata: Any) -> bytes:
    from safetensors.numpy import save as encode

    arrays = {
        name: np.ascontiguousarray(value._data if isinstance(value, Tensor) else value).reshape(value.shape)
        for name, value in tensors.items()
    }
    payload: bytes = encode(arrays, None if metadata is None else {_METADATA_KEY: json.dumps(metadata, allow_nan=False)})
    return payload


_TENSOR = "$tensor"
_FORMAT = 2


def pack(value: Any, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a nested value by path, and metadata from which `unpack` makes it again. TypeError, by path, for others."""
    tensors: dict[str, Any] = {}

    def pack_one(value: Any, path: str) -> Any:
        if isinstance(value, _ARRAYS):
            while path in tensors:  # {"a/b": x, "a": {"b": y}}
                path += "'"
            tensors[path] = value
            return {_TENSOR: path}
        if isinstance(value, Mapping):
            for key in value:
                if not (key is None or isinstance(key, (bool, int, float, str))):
                    raise TypeError(f"{name}: {path or '/'} has the key {key!r}; keys are strings and numbers")
            return {"$dict": [[key, pack_one(item, f"{path}/{key}")] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            items = [pack_one(item, f"{path}/{i}") for i, item in enumerate(value)]
            return items if isinstance(value, list) else {"$tuple": items}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, float) and not np.isfinite(value):
            return {"$float": repr(value)}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        hint = f"; of a module save its state_dict(), not the {type(value).__name__}" if hasattr(value, "state_dict") else ""
        raise TypeError(
            f"{name}: {path or 'the object'} is a {type(value).__name__}; files hold tensors, numbers, strings, lists and dicts{hint}"
        )

    structure = pack_one(value, "")
    return tensors, {"format": _FORMAT, "state": structure}


def is_packed(metadata: Any) -> bool:
    """Whether the metadata of a file is what `pack` made."""
    return isinstance(metadata, dict) and metadata.get("format") == _FORMAT and "state" in metadata


def unpack(path: Any, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Any:
    """The value that `pack` took apart. CheckpointError for a structure that does not fit the tensors."""

    def unpack_one(value: Any) -> Any:
        if isinstance(value, list):
            return [unpack_one(item) for item in value]
        if isinstance(value, dict):
            if _TENSOR in value:
                return tensors[value[_TENSOR]]
            if "$float" in value:
                return float(value["$float"])
            if "$tuple" in value:
                return tuple(unpack_one(item) for item in value["$tuple"])
            return {key: unpack_one(item) for key, item in value["$dict"]}
        return value

    try:
        return unpack_one(metadata["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {type(error).__name__} {error}") from None


def load(
    f: str | os.PathLike[str] | IO[bytes],
    map_location: Any = None,
    pickle_module: None = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
) -> Any:
    """What `save` wrote: the tensors of a safetensors file by name, or the nested object. CheckpointError for a bad file.

    map_location: the device that the tensors are wanted on, None or 'cpu' (RuntimeError for one that cannot be used). Files name
    no device, so a function or dict to choose by it raises TypeError. weights_only: may be either, nothing but data is ever
    loaded. pickle_module, mmap=True: TypeError and ValueError, there is no pickle and no mapping.
    """
    if pickle_module is not None:
        raise TypeError("load: nothing is ever unpickled, so pickle_module has no meaning; leave it out")
    if mmap:
        raise ValueError("load: mmap=True is not supported: a file is read and checked whole; leave it out")
    if callable(map_location) or isinstance(map_location, dict):
        raise TypeError("load: files name no device, so map_location chooses nothing; pass 'cpu' or leave it out")
    as_device(map_location).require()
    tensors, metadata = load_with_metadata(f)
    return unpack(f, tensors, metadata) if is_packed(metadata) else tensors


def load_with_metadata(path: str | os.PathLike[str] | IO[bytes]) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a safetensors file by name, and the metadata `save` stored with them (None if there is none)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as decode

    opened: Any = nullcontext(path) if hasattr(path, "read") else None
    path = "the file object" if opened is not None else Path(path)  # type: ignore[assignment, arg-type]
    try:
        with opened or open(path, "rb") as file:  # type: ignore[arg-type]
            start = file.tell()
            size = file.seek(0, os.SEEK_END) - start
            file.seek(start)
            prefix = file.read(8)
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
