"""`tg.compile`: a call recorded once and from then on run as a plan, without its Python.

values    values, instructions, structures of them            trace     what a call does, as instructions
program   two recordings compared, and simplified             guards    what a plan relies on
order     what may run together, and in which order           loops     elementwise operators as generated kernels
launches  heavy operators as the kernel calls they make       steps     a plan's steps, and where its values live
plan      a program made ready to run                         function  the compiled function: records, checks, runs
explanation  what became of it
"""

from __future__ import annotations

from .explanation import Explanation, PlanReport, StepReport, explain
from .function import CompiledFunction, compile

compile.explain = explain  # type: ignore[attr-defined]

__all__ = ["CompiledFunction", "Explanation", "PlanReport", "StepReport", "compile", "explain"]
