"""Optimizers and learning-rate schedules, with PyTorch's names, arguments, defaults and update equations.

optimizer.py: groups, state and the step. flat.py: all parameters in one block, so that a step is one kernel call. One file for
each family of optimizers. lr_scheduler.py: schedules. penalties.py: L1, L2 and elastic-net terms for a loss.
"""

from __future__ import annotations

from . import lr_scheduler, penalties
from .adam import Adam, AdamW
from .adaptive import Adadelta, Adagrad, RMSprop
from .optimizer import Optimizer
from .penalties import elastic_net_penalty, l1_penalty, l2_penalty
from .sgd import SGD

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "elastic_net_penalty", "l1_penalty", "l2_penalty",
    "lr_scheduler", "penalties",
]  # fmt: skip
