"""The state of a run as one safetensors file: tensors by path, everything else as JSON in the header.

One file, so that one rename makes it whole: a run that is killed at any moment leaves the checkpoint before or the one after.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..files import CheckpointError, load_with_metadata, save

_TENSOR = "$tensor"
_FORMAT = 2


def _pack(value: Any, path: str, tensors: dict[str, Any]) -> Any:
    if isinstance(value, (Tensor, np.ndarray)):
        tensors[path] = value
        return {_TENSOR: path}
    if isinstance(value, dict):
        return {"$dict": [[key, _pack(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_pack(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return {"$float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"save_state: {path} is a {type(value).__name__}; states hold tensors, numbers, strings, lists and dicts")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if "$float" in value:
            return float(value["$float"])
        return {key: _unpack(item, tensors) for key, item in value["$dict"]}
    return value


def save_state(state: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes nested dicts and lists of tensors, numbers and strings, atomically. TypeError, by path, for anything else."""
    tensors: dict[str, Any] = {}
    structure = _pack(state, "", tensors)
    save(tensors, path, {"format": _FORMAT, "state": structure})


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save_state` wrote. CheckpointError if the file is missing, damaged, or no state of ours."""
    tensors, metadata = load_with_metadata(path)
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: this is not a training checkpoint of this version (weights alone cannot be resumed)")
    try:
        state: dict[str, Any] = _unpack(metadata["state"], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {type(error).__name__} {error}") from None
    return state
