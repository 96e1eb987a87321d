"""`tg.compile`: a call recorded once and from then on run as a plan, without its Python.

trace     what a call does, as instructions over values       order     what may run together, and in which order
program   two recordings compared, and simplified             loops     groups of elementwise operators as generated kernels
guards    what a plan relies on                               launches  heavy operators as the kernel calls they make
plan      a place for every value, a function for every step  function  the compiled function: records, checks, runs
explanation  what became of it
"""

from __future__ import annotations

from .explanation import Explanation, PlanReport, StepReport, explain
from .function import CompiledFunction, compile

compile.explain = explain  # type: ignore[attr-defined]

__all__ = ["CompiledFunction", "Explanation", "PlanReport", "StepReport", "compile", "explain"]
