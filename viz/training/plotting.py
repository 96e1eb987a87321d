"""The one door to matplotlib: figures without a screen, their colours, and what a plotting function returns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tinygrad_cv.files import write_atomically

TRAIN, VALIDATION, GUIDE = "#1f5fa8", "#b3470a", "#57606a"
MARKERS = "osD^vP*Xph"  # of classes, so that they can be told apart without colour
ENDINGS = (".png", ".svg", ".pdf")


class Chart:
    """A drawn figure. `save` it, or let a notebook show it; `figure` is matplotlib's, to change at will."""

    def __init__(self, figure: Any) -> None:
        self.figure = figure

    def save(self, path: str | Path, dpi: int = 150) -> None:
        """Writes PNG, SVG or PDF by the ending, atomically. ValueError for another ending, before anything is drawn."""
        path = Path(path)
        if path.suffix.lower() not in ENDINGS:
            raise ValueError(f"Chart.save: the ending of {str(path)!r} must be one of {', '.join(ENDINGS)}")
        write_atomically(path, self.render(path.suffix.lower()[1:], dpi))

    def render(self, format: str, dpi: int = 150) -> bytes:
        """The figure as "png", "svg" or "pdf"; the same figure gives the same bytes."""
        import matplotlib

        buffer = io.BytesIO()
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format, {})
        with matplotlib.rc_context({"svg.hashsalt": "tinygrad_cv"}):
            self.figure.savefig(buffer, format=format, dpi=dpi, metadata=undated)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.render("png", 110)


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, bound to no screen. ImportError, saying how to get it, without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("figures are drawn with matplotlib: pip install 'tinygrad_cv[viz]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def quiet(axes: Any) -> None:
    """No ticks, no frame: for pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def depth_colours(count: int) -> list[Any]:
    """One colour a layer from input to output, ever lighter, so that grey print keeps the order."""
    import matplotlib

    ramp = matplotlib.colormaps["viridis"]
    return [ramp(0.85 * i / max(count - 1, 1)) for i in range(count)]


def class_colours(count: int) -> list[Any]:
    """Well-separated colours of classes."""
    import matplotlib

    palette = matplotlib.colormaps["tab10" if count <= 10 else "tab20"]
    return [palette(i % palette.N) for i in range(count)]
