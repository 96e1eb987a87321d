"""Architectures, built from the public API alone. `create(name, **options)` makes one by name, `list_models()` names them all.

Modules here import `tinygrad_cv` (nn and operators) and nothing private.
"""

from __future__ import annotations

from typing import Any

from ._registry import ModelInfo, create, info, list_models, register
from .classic import MLP, LeNet5, lenet5, linear_softmax, linear_svm, mlp

__all__ = [
    "MLP", "LeNet5", "ModelInfo", "create", "info", "lenet5", "linear_softmax", "linear_svm", "list_models", "mlp", "register",
]  # fmt: skip


def __dir__() -> list[Any]:
    return sorted(__all__)
