"""Learning-rate schedules: `scheduler.step()` after each epoch (or batch) sets `lr` in the optimizer's groups.

As in PyTorch, most schedules multiply the present rate, so several can act on one optimizer. t counts the calls of step();
base is the rate a group had when the first schedule was made, kept in the group as 'initial_lr'.
"""

from __future__ import annotations

from .lr_base import LRScheduler
from .lr_combined import ChainedScheduler, ReduceLROnPlateau, SequentialLR
from .lr_cycles import CosineAnnealingLR, CosineAnnealingWarmRestarts
from .lr_decay import (
    ConstantLR,
    ExponentialLR,
    InverseTimeLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
    WarmupLR,
)
from .lr_momentum import CyclicLR, OneCycleLR

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "InverseTimeLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupLR",
]
