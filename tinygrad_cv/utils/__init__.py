"""`tg.utils`: PyTorch's addresses of the data loader and of checkpoint, for scripts that import them from here."""

from . import checkpoint, data

__all__ = ["checkpoint", "data"]
