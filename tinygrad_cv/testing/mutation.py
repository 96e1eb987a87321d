"""How good the gradient checks are: every backward rule is made wrong in many ways, and the checks must notice each.

    results = mutate(["conv2d", "softmax"])
    print(report(results))

`python -m tinygrad_cv.testing.mutation [NAME ...]` does it from the command line, for all operators if none is named, one process
for each processor. A mutant (see mutants.py) ends as one of

killed      a check compared numbers (or shapes) and found them wrong
raised      the wrong rule could not run: an error of its own, which says nothing about the checks; not counted
equivalent  the checks passed, and the wrong rule gave the right rule's gradients, to the last digits, on other calls too; not counted.
            The reason says which sort: what was changed has the same value in every call (ctx.input_shapes[-1] for [0], where there is
            one input), has another value that makes no difference (an upstream of a gradient that is 0), or was not reached (a branch
            for values or dtypes that the domain does not draw: a hole of the domain, unless nothing can draw them)
survived    the checks passed, and the gradients are wrong somewhere: a hole in the checks or in the operator's domain
crashed     the process died: a kernel was given what it does not bear
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from .. import registry
from .._tensor import Tensor
from ..autograd.differences import random_upstreams
from ..autograd.numerical import GradcheckError
from ..domain import NumpyDraw
from ..registry import Operator
from . import check_op
from .checks import check_edge_shapes, check_empty, check_gradient, check_inplace, check_kinks, check_layouts, gradients
from .deliver import add_options, deliver
from .mutants import Mutant, mutants_of
from .samples import Sample
from .special import SPECIAL

EXAMPLES = 20
_OTHERS = (check_kinks, *SPECIAL, check_empty, check_edge_shapes, check_inplace, check_layouts)  # that see gradients
_REFUSED = re.compile(
    r"backward rule must return|gradient of array \d+:"
)  # the engine's and the checks' own words for a wrong shape


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant.

    by: the check that noticed, or the error; example: how many calls it took, from 1; reason: why it is equivalent.
    """

    operator: str
    kind: str
    place: str
    status: str
    by: str = ""
    example: int = 0
    reason: str = ""


def try_mutant(mutant: Mutant, seed: int = 0, examples: int = EXAMPLES) -> Outcome:
    """Runs the checks of `check_op` on the operator with the mutant's rule in place of its own.

    First those that look at gradients; all of them where these notice nothing though the gradients differ on other calls.
    """
    example = 0
    status, by = "survived", ""
    with mutant.installed(), _quiet():
        try:
            for example in range(1, examples + 1):  # the check that most mutants die by, before all the others
                for check in (check_gradient, *_OTHERS) if example < 3 else (check_gradient,):
                    by = check.__name__
                    check(_sample(mutant.operator, seed, example - 1), Uncounted())  # type: ignore[arg-type]
            if not _equivalent(mutant, seed):
                by = "check_op"
                check_op(mutant.operator, examples=examples, seed=seed)
        except (GradcheckError, AssertionError) as error:
            status = "killed"
            if not by.startswith("check_g") and "Error: " in str(error) and "agree" not in str(error):
                by = str(error).partition(",")[2].partition(",")[0].strip() or by
        except Exception as error:
            shape = _REFUSED.search(str(error))
            status, by = ("killed", "shape or dtype") if shape else ("raised", f"{type(error).__name__}: {str(error)[:120]}")
    if status != "survived":
        return Outcome(mutant.operator.name, mutant.kind, mutant.place, status, by, example)
    if not _equivalent(mutant, seed):
        return Outcome(mutant.operator.name, mutant.kind, mutant.place, status, "", example)
    return Outcome(mutant.operator.name, mutant.kind, mutant.place, "equivalent", "", example, _reason(mutant, seed))


class Uncounted:
    def count(self, kind: str, number: int = 1) -> None:
        """Nobody asks how often a mutant was compared."""


def _sample(operator: Operator, seed: int, i: int) -> Sample:
    return Sample(operator, operator.domain(NumpyDraw(np.random.default_rng([seed, i]))), seed + i)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _equivalent(mutant: Mutant, seed: int, calls: int = 100) -> bool:
    """Whether the mutant's gradients are those of the right rule on `calls` other calls, to 1e-12 of the largest."""
    with _quiet():
        for i in range(calls):
            sample = _sample(mutant.operator, seed + 1_000_003, i)
            right = _gradients(sample)
            try:
                with mutant.installed():
                    wrong = _gradients(sample)
            except Exception:
                return False
            if right is None or wrong is None:
                continue
            for a, b in zip(right, wrong, strict=True):
                scale = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
                if not np.allclose(a, b, rtol=0, atol=1e-12 * scale, equal_nan=True):
                    return False
    return True


NOT_REACHED, SAME, NO_MATTER, ZERO = "not reached", "the same value", "another value, the same gradient", "the gradient is 0"


def _reason(mutant: Mutant, seed: int, calls: int = 100) -> str:
    """Why a mutant is equivalent, from what the place of the change gives in `calls` calls."""
    if mutant.probe is None:
        with _quiet():
            found = [_gradients(_sample(mutant.operator, seed + 1_000_003, i)) for i in range(10)]
        return NO_MATTER if any(g.any() for f in found for g in f or ()) else ZERO
    seen = set()

    def observer(right: Any, wrong: Any) -> Any:
        value = right()
        try:
            seen.add(_same(value, wrong()))
        except Exception:
            seen.add(False)
        return value

    with _quiet(), mutant.replaced(mutant.probe(observer)):
        for i in range(calls):
            _gradients(_sample(mutant.operator, seed + 1_000_003, i))
    return NOT_REACHED if not seen else NO_MATTER if False in seen else SAME


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return bool(np.array_equal(a._data, b._data, equal_nan=a._data.dtype.kind == "f"))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(np.all(a == b))


def _gradients(sample: Sample) -> list[np.ndarray] | None:
    return gradients(sample, [a.copy() for a in sample.arrays], lambda k, t: random_upstreams([t.shape], np.float64, k)[0])


def mutate_operator(operator: Operator | str, seeds: Sequence[int] = (0,), examples: int = EXAMPLES) -> list[Outcome]:
    """The outcome of every mutant of one operator for every seed. AssertionError where the operator itself fails its checks."""
    operator = registry.get(operator) if isinstance(operator, str) else operator
    found = mutants_of(operator)
    if not found:
        return []
    for seed in seeds:
        check_op(operator, examples=examples, seed=seed)
    return [try_mutant(mutant, seed, examples) for mutant in found for seed in seeds]


def mutate(names: Iterable[str] | None = None, *, seeds: Sequence[int] = (0,), processes: int | None = None) -> list[Outcome]:
    """`mutate_operator` for the operators of these names (all that have a backward rule, if None), in processes of their own.

    A mutant that kills its process has the outcome "crashed".
    """
    chosen = list(names) if names is not None else [o.name for o in registry.operators() if o.joint_rule or o.rules]
    for name in chosen:
        registry.get(name)
    results: dict[str, list[Outcome]] = {}
    waiting = chosen
    while waiting:
        with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(mutate_operator, name, tuple(seeds)): name for name in waiting}
            lost = []
            for future in as_completed(futures):
                name = futures[future]
                try:
                    results[name] = future.result()
                    _progress(name, results[name], len(results), len(chosen))
                except BrokenProcessPool:
                    lost.append(name)
        lost.sort(key=chosen.index)
        if len(lost) == len(waiting):  # it is one of the first: alone, each shows whether it is
            results[lost[0]] = _alone(lost[0], seeds)
            _progress(lost[0], results[lost[0]], len(results), len(chosen))
            lost = lost[1:]
        waiting = lost
    return [outcome for name in chosen for outcome in results[name]]


def _progress(name: str, outcomes: Sequence[Outcome], done: int, whole: int) -> None:
    counts = Counter(o.status for o in outcomes)
    told = ", ".join(f"{n} {status}" for status, n in counts.most_common()) or "no mutants"
    print(f"[{done}/{whole}] {name}: {told}", file=sys.stderr, flush=True)


def _alone(name: str, seeds: Sequence[int]) -> list[Outcome]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(mutate_operator, name, tuple(seeds)).result()
        except BrokenProcessPool:
            return [Outcome(name, "any", "one of its mutants", "crashed", "the process died")]


def score(outcomes: Iterable[Outcome]) -> float:
    """killed / (killed + survived + crashed)."""
    counts = Counter(o.status for o in outcomes)
    counted = counts["killed"] + counts["survived"] + counts["crashed"]
    return counts["killed"] / counted if counted else 1.0


def report(outcomes: Sequence[Outcome]) -> str:
    """The table by kind of mistake, the operators with fewer than ten counted mutants, and every survivor, as Markdown."""
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    by_operator: dict[str, Counter[str]] = defaultdict(Counter)
    for o in outcomes:
        by_kind[o.kind][o.status] += 1
        by_operator[o.operator][o.status] += 1
    columns = ("killed", "survived", "equivalent", "raised", "crashed")
    lines = ["| mistake | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for kind in sorted(by_kind):
        lines.append(f"| {kind} | " + " | ".join(str(by_kind[kind][c]) for c in columns) + " |")
    total = Counter(o.status for o in outcomes)
    lines.append("| **all** | " + " | ".join(f"**{total[c]}**" for c in columns) + " |")
    lines += [
        "",
        f"{len(by_operator)} operators, {len(outcomes)} mutants, {100 * score(outcomes):.2f} % of the counted ones killed.",
    ]
    few = [f"{n} ({c['killed'] + c['survived']})" for n, c in sorted(by_operator.items()) if c["killed"] + c["survived"] < 10]
    if few:
        lines += ["", f"Fewer than ten counted mutants: {', '.join(few)}."]
    reasons = Counter(o.reason for o in outcomes if o.status == "equivalent")
    if reasons:
        listed = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
        lines += ["", f"Equivalent, by what the changed place gives: {listed}."]
    unreached = sorted({o.operator for o in outcomes if o.reason == NOT_REACHED})
    if unreached:
        lines += ["", f"Not reached by any drawn call, something in the rules of: {', '.join(unreached)}."]
    survivors = [o for o in outcomes if o.status in ("survived", "crashed")]
    if survivors:
        lines += ["", "Survivors:", ""]
        lines += [f"- `{o.operator}`: {o.kind}; {o.place}" for o in dict.fromkeys(survivors)]
    return "\n".join(lines)


MARKS = ("<!-- mutation: begin -->", "<!-- mutation: end -->")


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status is 1 if a mutant survived."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_cv.testing.mutation", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("names", nargs="*", help="operators to mutate (default: all that have a backward rule)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to draw the calls from (default 1)")
    parser.add_argument("--processes", type=int, default=None, help="default: one for each processor")
    add_options(parser, MARKS)
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        outcomes = mutate(given.names or None, seeds=range(given.seeds), processes=given.processes)
    except KeyError as error:
        parser.error(str(error.args[0]))
    deliver(given, outcomes, report(outcomes), MARKS, start)
    return int(any(o.status in ("survived", "crashed") for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())


__all__ = ["Outcome", "mutate", "mutate_operator", "report", "score", "try_mutant"]
