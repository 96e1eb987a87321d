"""Pictures: computation graphs and training curves. Uses only the public graph API (`tinygrad_cv.graph`).

graph_picture.py: what to draw. dot.py: the DOT text. render.py: how to turn it into SVG, PNG or PDF, with or without `dot`.
curves.py: plots of a run.
"""

from .curves import plot_history
from .graph_picture import Picture, draw
from .render import RenderError

__all__ = ["Picture", "RenderError", "draw", "plot_history"]
