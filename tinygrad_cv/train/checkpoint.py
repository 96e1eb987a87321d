"""The state of a run as one safetensors file: tensors by path, everything else as JSON in the header.

One file, so that one rename makes it whole: a run that is killed at any moment leaves the checkpoint before or the one after.
"""

from __future__ import annotations

import os
from typing import Any

from ..files import CheckpointError, is_packed, load_with_metadata, pack, save, unpack


def save_state(state: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes nested dicts and lists of tensors, numbers and strings, atomically. TypeError, by path, for anything else."""
    tensors, structure = pack(state, "save_state")
    save(tensors, path, structure)


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save_state` wrote. CheckpointError if the file is missing, damaged, or no state of ours."""
    tensors, metadata = load_with_metadata(path)
    if not is_packed(metadata):
        raise CheckpointError(f"{path}: this is not a training checkpoint of this version (weights alone cannot be resumed)")
    state: dict[str, Any] = unpack(path, tensors, metadata)
    return state
