"""Pictures: computation graphs, step-through pages and training curves. Uses only the public graph API (`tinygrad_cv.graph`).

    graph_picture.py   draw(): the call, and the Picture it returns      labels.py      what stands in a box and on an arrow
    boxes.py           which nodes are drawn, which are folded           colouring.py   colours by time, FLOPs, memory, ...
    runs.py            runs of equal blocks                              theme.py       colours and shapes of boxes
    backward.py        the way that gradients flow                       dot.py         the DOT text; text_tree.py: the text tree
    undisturbed.py     calling a module without moving its buffers
    render.py          SVG, PNG, PDF, with or without `dot`              raster.py      PNG and PDF from an SVG
    explain/           step-through pages                                training/, curves.py   watching a run

Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

_TRAINING = (
    "Check", "Confusion", "Landscape", "Overfit", "Recording", "TrainingMonitor", "can_overfit", "confusion", "decision_regions",
    "diagnose", "filter_images", "filters", "loss_landscape", "plot_recording", "write_events", "write_report",
)  # fmt: skip
_PLACES = {
    "Picture": ".graph_picture",
    "RenderError": ".render",
    "THEMES": ".theme",
    "Theme": ".theme",
    "draw": ".graph_picture",
    "explain": ".explain",
    "plot_history": ".curves",
    **dict.fromkeys(_TRAINING, ".training"),
}

if TYPE_CHECKING:
    from .curves import plot_history
    from .explain import explain
    from .graph_picture import Picture, draw
    from .render import RenderError
    from .theme import THEMES, Theme
    from .training import (
        Check,
        Confusion,
        Landscape,
        Overfit,
        Recording,
        TrainingMonitor,
        can_overfit,
        confusion,
        decision_regions,
        diagnose,
        filter_images,
        filters,
        loss_landscape,
        plot_recording,
        write_events,
        write_report,
    )  # fmt: skip


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(place, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})


class _Package(ModuleType):
    """This package: the function `explain` keeps its name although the folder it lives in is called so too."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

__all__ = [
    "THEMES", "Check", "Confusion", "Landscape", "Overfit", "Picture", "Recording", "RenderError", "Theme", "TrainingMonitor",
    "can_overfit", "confusion", "decision_regions", "diagnose", "draw", "explain", "filter_images", "filters", "loss_landscape",
    "plot_history", "plot_recording", "write_events", "write_report",
]  # fmt: skip
