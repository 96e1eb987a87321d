"""`tg.utils.data`: `tg.data` under PyTorch's address, with its names for the two functions that make batches."""

from ..data import *  # noqa: F403
from ..data import __all__ as _names
from ..data.loader import collate as default_collate
from ..data.loader import convert as default_convert

__all__ = [*_names, "default_collate", "default_convert"]
