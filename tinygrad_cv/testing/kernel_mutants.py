"""Wrong CPU kernels made from right ones: shares that overlap, places that threads have in common, bounds, strides, remainders.

    python -m tinygrad_cv.testing.kernel_mutants [FAMILY ...]

The source of a kernel, or of a function compiled into kernels, is parsed, one place is changed, and the result is compiled in the
original's place: in a process of its own, which may write out of bounds and die. There `large.check_large` and the checks of values and
kernels run on the operators that use the family, and all of `check_op` where these notice nothing. Of each kind, `--sites` places are
taken, spread evenly over a family's sources. A mutant ends as one of

killed      a check compared numbers and found them wrong, or the call failed
crashed     the process died, or ran into the limit of processor time: noticed, though not by a comparison
refused     it does not compile: not counted
survived    the checks passed, and other calls give other numbers
equivalent  the checks passed, the changed statement ran, and the same checks on calls of another seed pass: not counted
not reached the checks passed, and nothing ran the changed statement: a hole

Changed are the functions of `tinygrad_cv.ops.cpu` that have a Python source. Vector code written as LLVM instructions, the updates of the
optimizers and the loops that are generated from scalar expressions are not: the first two have tests of their own, and every elementwise
operator tests the third (`checks.check_enlarged`).
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import linecache
import os
import select
import signal
import sys
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from types import FunctionType
from typing import Any

import numpy as np

from ..domain import NumpyDraw
from ..registry import get
from .deliver import add_options, deliver
from .kernel_mistakes import changes
from .mutants import with_node
from .mutation import Uncounted
from .samples import Sample

_CONVOLUTIONS = ("conv2d", "conv_input_grad")
FAMILIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # modules of ops.cpu, operators that use them
    "softmax": (("softmax",), (
        "softmax", "softmax_backward", "log_softmax", "log_softmax_backward", "softmax_cross_entropy", "softmax_cross_entropy_backward",
    )),
    "sums": (("sums",), ("sum",)),
    "pool": (("pool",), (
        "max_pool2d_with_indices", "max_pool_input_grad", "max_pool_gather", "avg_pool2d", "avg_pool_input_grad",
    )),
    "norm": (("norm",), (
        "batch_norm_with_statistics", "batch_norm_backward", "layer_norm_with_statistics", "layer_norm_backward",
        "group_norm_with_statistics", "group_norm_backward",
    )),
    "norm_columns": (("norm_columns",), ("batch_norm_with_statistics", "batch_norm_backward")),
    "places": (("places",), ("gather", "index_select", "scatter_add", "index_add")),
    "sampling": (("sampling",), (
        "interpolate_axis", "sample_taps", "scatter_taps", "tap_products", "embedding_backward",
    )),
    "dropout": (("dropout",), ("dropout_with_mask",)),
    "conv": (("conv", "conv_copies", "conv_tiles"), (*_CONVOLUTIONS, "conv1d", "conv3d", "conv_transpose2d")),
    "conv_weight": (("conv_weight",), ("conv_weight_grad",)),
    "conv_depthwise": (("conv_depthwise",), ("conv_weight_grad",)),
    "gemm": (("gemm_blocks", "gemm_tiles", "gemm_micro"), ("mm", "bmm", "addmm", "linear")),
    "winograd": (("winograd", "winograd_tiles", "winograd_pieces"), _CONVOLUTIONS),
    "winograd_weight": (("winograd_weight",), ("conv_weight_grad",)),
}  # fmt: skip
KINDS = ("race", "bounds", "stride", "tail")
SITES = 3
_PROCESSOR_SECONDS = 180
_DRAWS, _OTHER_DRAWS = 5, 10
_NOTICED = ("killed", "crashed")


@dataclass(frozen=True)
class KernelOutcome:
    """What became of one wrong kernel. by: the operator and the words of the check that noticed."""

    family: str
    kernel: str
    kind: str
    place: str
    status: str
    by: str = ""


@dataclass(frozen=True)
class _Site:
    module: str
    name: str
    kind: str
    position: int
    place: str
    changed: ast.AST


def sites(family: str, each: int = SITES) -> list[_Site]:
    """`each` changes of every kind, spread evenly over the sources of a family; all of them where there are fewer."""
    found: dict[str, list[_Site]] = {kind: [] for kind in KINDS}
    for module_name in FAMILIES[family][0]:
        module = importlib.import_module(f"tinygrad_cv.ops.cpu.{module_name}")
        for name, value in vars(module).items():
            function = _source_of(value)
            if function is None or function.__module__ != module.__name__:
                continue
            tree = _tree(function)
            seen = {ast.unparse(tree)}
            for kind, node, position, changed in changes(tree):
                text = ast.unparse(with_node(tree, position, changed))
                if text not in seen:
                    seen.add(text)
                    place = f"{ast.unparse(node)} became {ast.unparse(ast.fix_missing_locations(changed))}"
                    found[kind].append(_Site(module_name, name, kind, position, place, changed))
    return [s for kind in KINDS for s in _spread(found[kind], each)]


def _spread(values: list[_Site], each: int) -> list[_Site]:
    if len(values) <= each:
        return values
    return [values[round((i + 0.5) * len(values) / each - 0.5)] for i in range(each)]


def _source_of(value: Any) -> FunctionType | None:
    """The Python function of a kernel, or of one compiled into kernels."""
    function = getattr(value, "py_func", None) or (value.function if type(value).__name__ == "Kernel" else None)
    return function if isinstance(function, FunctionType) else None


def _tree(function: FunctionType) -> ast.Module:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    assert isinstance(tree.body[0], ast.FunctionDef)
    tree.body[0].decorator_list = []
    return tree


# One of them, in a process of its own ---------------------------------------------------------------------------------------------


def _install(site: _Site, changed: ast.AST | None = None) -> None:
    """Puts the wrong function in the place of the right one, for this process, before anything was compiled, and keeps it off the disk."""
    import numba

    from ..kernels import cache, jit

    module = importlib.import_module(f"tinygrad_cv.ops.cpu.{site.module}")
    original = vars(module)[site.name]
    function = _source_of(original)
    assert function is not None
    tree = _tree(function)
    tree = with_node(tree, site.position, site.changed) if changed is None else _raising(tree, site.position)
    wrong = _compiled(function, ast.unparse(tree))
    kernels = {id(k): k for m in _modules() for k in vars(m).values() if isinstance(k, jit.Kernel)}.values()
    reached = [k for k in kernels if id(function) in jit._Reached(k.function)._seen]
    if isinstance(original, jit.Kernel):
        original.function = wrong
    else:
        options = {k: v for k, v in original.targetoptions.items() if k != "nopython"}
        made = numba.njit(**options)(wrong)
        for m in _modules():
            for name in [n for n, v in vars(m).items() if v is original]:
                setattr(m, name, made)
    for k in reached:
        k._source_key = f"mutant {os.getpid()} {time.time()}"
    cache.store = lambda *given: None  # type: ignore[assignment]


def _modules() -> list[Any]:
    return [m for name, m in list(sys.modules.items()) if name.startswith("tinygrad_cv.") and m is not None]


def _compiled(function: FunctionType, text: str) -> FunctionType:
    file = f"<mutant of {function.__qualname__}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # where `split` finds the source
    made: dict[str, Any] = {}
    exec(compile(text, file, "exec"), function.__globals__, made)
    wrong = made[function.__name__]
    assert isinstance(wrong, FunctionType)
    return wrong


def _raising(tree: ast.Module, position: int) -> ast.Module:
    """The function with an error raised before the statement at a position."""
    target = list(ast.walk(tree))[position]

    class Before(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            inside = isinstance(node, ast.stmt) and any(n is target for n in ast.walk(node))
            nested = inside and any(
                isinstance(n, ast.stmt) and n is not node and any(m is target for m in ast.walk(n)) for n in ast.walk(node)
            )
            if inside and not nested:
                return [*ast.parse("raise ValueError('reached')").body, node]
            return super().visit(node)

    return ast.fix_missing_locations(Before().visit(tree))  # type: ignore[no-any-return]


def _checked(operators: Sequence[str], whole: bool, seed: int = 0, draws: int = 3) -> str:
    """What the checks say: "" where all pass."""
    from . import check_op
    from .checks import check_kernel, check_value
    from .large import check_large

    for name in operators:
        try:
            check_large(name, seed, draws)
        except Exception as error:
            return f"{name}: {type(error).__name__}: {str(error)[:160]}"
        for i in range(_DRAWS):
            sample = Sample(get(name), get(name).domain(NumpyDraw(np.random.default_rng([seed, i]))), seed + i)
            for check in (check_value, check_kernel):
                try:
                    check(sample, Uncounted())  # type: ignore[arg-type]
                except Exception as error:
                    return f"{name}: {type(error).__name__}: {str(error)[:160]}"
    for name in operators if whole else ():
        result = check_op(name, examples=2, seed=seed, raise_exception=False)
        if result.failure is not None:
            return f"{name}: {result.failure[:160]}"
    return ""


def _outcome(site: _Site, operators: Sequence[str]) -> tuple[str, str]:
    _install(site)
    said = _checked(operators, whole=False)
    if said:
        return ("refused", said) if "KernelCompileError" in said or "does not compile" in said else ("killed", said)
    other = _checked(operators, whole=False, seed=77_000, draws=_OTHER_DRAWS)
    if not other:
        return "equivalent", ""
    said = _checked(operators, whole=True)
    return ("killed", said) if said else ("survived", other)


def _reached(site: _Site, operators: Sequence[str]) -> tuple[str, str]:
    _install(site, ast.Pass())
    return ("equivalent", "") if _checked(operators, whole=False) else ("not reached", "")


def _in_a_child(work: Any, site: _Site, operators: Sequence[str]) -> tuple[str, str]:
    """`work(site, operators)` in a fork of this process, which must not have run a kernel yet."""
    import resource

    from ..kernels import threads

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS + 5))
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            threads.shared.forked = False  # nothing ran in the parent: the child may have threads
            threads.shared.generation += 1
            with np.errstate(all="ignore"):
                answer = work(site, operators)
        except BaseException as error:
            answer = ("refused", f"{type(error).__name__}: {str(error)[:160]}")
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    text = b""
    while select.select([reading], [], [], 20 * _PROCESSOR_SECONDS)[0]:
        part = os.read(reading, 65536)
        if not part:
            break
        text += part
    else:
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if text:
        status_word, by = json.loads(text)
        return status_word, by
    return "crashed", f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit status {os.WEXITSTATUS(status)}"


def mutate_family(family: str, each: int = SITES) -> list[KernelOutcome]:
    """The outcomes of a family's mutants. In a process that has run no kernel; RuntimeError where the right kernels fail the checks."""
    operators = FAMILIES[family][1]
    for module in FAMILIES[family][0]:
        importlib.import_module(f"tinygrad_cv.ops.cpu.{module}")
    found = sites(family, each)
    right, said = _in_a_child(lambda _site, names: ("right", _checked(names, whole=False)), found[0], operators)
    if said:
        raise RuntimeError(f"the kernels of {family} fail their own checks ({right}): {said}")
    outcomes = []
    for site in found:
        status, by = _in_a_child(_outcome, site, operators)
        if status == "equivalent":
            status, by = _in_a_child(_reached, site, operators)
        outcomes.append(KernelOutcome(family, f"{site.module}.{site.name}", site.kind, site.place, status, by))
        print(
            f"{family} {len(outcomes)}/{len(found)} {site.kind}: {status}; {site.name}: {site.place}",
            file=sys.stderr,
            flush=True,
        )
    return outcomes


def mutate_kernels(
    families: Iterable[str] | None = None, each: int = SITES, processes: int | None = None
) -> list[KernelOutcome]:
    """`mutate_family` for these families (all if None), in processes of their own.

    KeyError for a name that is none, OSError on a system without fork().
    """
    chosen = list(FAMILIES) if families is None else list(families)
    for family in chosen:
        if family not in FAMILIES:
            raise KeyError(f"mutate_kernels: no family {family!r}; there are {', '.join(FAMILIES)}")
    if not hasattr(os, "fork"):
        raise OSError("mutate_kernels: this system has no fork(), by which wrong kernels are kept apart")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # more threads than processors must not wait for one another at work
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(3, os.cpu_count() or 1)))  # read where Numba is imported: in the workers
    with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        return [o for found in pool.map(mutate_family, chosen, [each] * len(chosen)) for o in found]


def report(outcomes: Sequence[KernelOutcome]) -> str:
    """The tables by kind and by family, and every mutant that was not noticed, as Markdown."""
    columns = ("killed", "crashed", "survived", "not reached", "equivalent", "refused")
    lines = []
    for title, key in (("mistake", "kind"), ("kernels", "family")):
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for o in outcomes:
            counts[getattr(o, key)][o.status] += 1
        lines += [f"| {title} | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
        lines += [f"| {name} | " + " | ".join(str(c[s]) for s in columns) + " |" for name, c in counts.items()] + [""]
    total = Counter(o.status for o in outcomes)
    counted = sum(total[s] for s in (*_NOTICED, "survived", "not reached"))
    noticed = sum(total[s] for s in _NOTICED)
    lines += [f"{len(outcomes)} mutants, {100 * noticed / max(counted, 1):.1f} % of the {counted} counted ones noticed."]
    for status in ("survived", "not reached", "equivalent"):
        listed = [o for o in outcomes if o.status == status]
        if listed:
            lines += ["", f"{status.capitalize()}:", ""] + [
                f"- `{o.kernel}`: {o.kind}; {' '.join(o.place.split())}" for o in listed
            ]
    return "\n".join(lines)


MARKS = ("<!-- kernel mutation: begin -->", "<!-- kernel mutation: end -->")


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status is 1 if a mutant was not noticed."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_cv.testing.kernel_mutants", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("families", nargs="*", help=f"of {', '.join(FAMILIES)} (default: all)")
    parser.add_argument("--sites", type=int, default=SITES, help=f"mutants of each kind in a family (default {SITES})")
    parser.add_argument("--processes", type=int, default=None, help="default: one for each processor")
    add_options(parser, MARKS)
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        outcomes = mutate_kernels(given.families or None, given.sites, given.processes)
    except KeyError as error:
        parser.error(str(error.args[0]))
    deliver(given, outcomes, report(outcomes), MARKS, start)
    return int(any(o.status in ("survived", "not reached") for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())


__all__ = ["FAMILIES", "KINDS", "KernelOutcome", "changes", "main", "mutate_family", "mutate_kernels", "report", "sites"]
