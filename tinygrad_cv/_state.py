"""The per-thread switches that every operator call looks at, in one object so that a call reads them once."""

from __future__ import annotations

import threading
from typing import Any


class Scope(str):
    """The dotted name of one call of a module or composite operator. outer: of the call it is made in."""

    __slots__ = ("outer",)
    outer: str


class State(threading.local):
    """Defaults are class attributes: every new thread starts from them."""

    grad_enabled: bool = True
    inference: bool = False
    anomaly: bool = False
    capture: Any = None  # a graph.Capture while one is recording
    scope: str = ""  # dotted name of the module or composite operator being run
    parts: Any = None  # modules to call in their compiled form, by id, while a call runs that could not be compiled as a whole
    launches: Any = None  # the list of kernel calls while those of an operator are recorded for a plan
    quiet: bool = False  # floating-point warnings are already silenced by an outer frame


state = State()
