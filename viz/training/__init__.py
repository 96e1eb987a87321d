"""Watching training: what a run did, what is wrong with it, and what the trained network has become.

monitor.py: the callback, with probe.py (looks into one step) and recording.py (the numbers). diagnosis.py: what they say in words, by
the rules of loss_rules.py and layer_rules.py (check.py: a rule's answer); overfit.py: ten examples by heart. The same run live:
terminal.py; as a page: report.py with static/; as a picture: figures.py; for TensorBoard: events.py. Pictures of a network:
first_layer.py, mistakes.py, landscape.py, regions.py; plotting.py is the door to matplotlib. Uses public names only.
"""

from .check import Check
from .diagnosis import RULES, diagnose
from .events import write_events
from .figures import plot_recording
from .first_layer import filter_images, filters
from .landscape import Landscape, loss_landscape
from .mistakes import Confusion, Mistake, confusion
from .monitor import TrainingMonitor
from .overfit import Overfit, can_overfit
from .plotting import Chart
from .recording import Recording
from .regions import decision_regions
from .report import write_report
from .terminal import sparkline

__all__ = [
    "RULES", "Chart", "Check", "Confusion", "Landscape", "Mistake", "Overfit", "Recording", "TrainingMonitor", "can_overfit",
    "confusion", "decision_regions", "diagnose", "filter_images", "filters", "loss_landscape", "plot_recording", "sparkline",
    "write_events", "write_report",
]  # fmt: skip
