"""Training: the loop with validation, early stopping, callbacks and progress; checkpoints that resume bit for bit.

trainer.py: the loop. checkpoint.py: its state as one safetensors file. callbacks.py: what may happen between epochs.
recipes.py: optimizers and schedules by name, for the command line. May import nn, optim, data; never viz or cli.
"""

from .callbacks import Callback, EarlyStopping
from .checkpoint import load_state, save_state
from .metrics import accuracy, confusion_matrix, top_k_accuracy
from .trainer import History, Trainer, TrainingError

__all__ = [
    "Callback", "EarlyStopping", "History", "Trainer", "TrainingError", "accuracy", "confusion_matrix", "load_state", "save_state",
    "top_k_accuracy",
]  # fmt: skip
