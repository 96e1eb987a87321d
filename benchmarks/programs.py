"""Random programs over all registered operators, each run in every way there is, and compared: what differs is made small and listed.

    python benchmarks/programs.py --count 10000                      two processes; a line for each program goes to --results
    python benchmarks/programs.py --count 10000 --loops-every 20     every twentieth with loops on small arrays and in plans
    python benchmarks/programs.py --summary                          what the file holds

A run goes on where the last one with the same --results stopped. Every second program is drawn from the operators that PyTorch has too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def _settings(loops: bool) -> None:
    """Loops from the first element on, or from where they pay; one thread of PyTorch's."""
    from tinygrad_cv import kernels, registry
    from tinygrad_cv.kernels import launch

    wanted = 1 if loops else None
    if kernels.numba_available() and launch.smallest != wanted:
        launch.smallest = wanted
        for operator in registry.operators():
            operator.forget_kernels()


def shared_operators() -> list[str]:
    """The names of the operators that PyTorch has too."""
    from tinygrad_cv import registry
    from tinygrad_cv.testing import torch_names

    found = []
    for operator in registry.operators():
        try:
            torch_names.counterpart(operator.name)
        except torch_names.NoCounterpart:
            continue
        found.append(operator.name)
    return found


def try_program(seed: int, most: int, loops: bool, torch: bool) -> dict[str, Any]:
    """One program drawn from `seed`, and what was found."""
    from tinygrad_cv.domain import NumpyDraw
    from tinygrad_cv.testing.program_compare import BACKENDS, compare, minimize
    from tinygrad_cv.testing.program_draw import draw_program

    start = time.perf_counter()
    _settings(loops)
    row: dict[str, Any] = {"seed": seed, "loops": loops}
    try:
        program = draw_program(NumpyDraw(seed), shared_operators() if torch and seed % 2 else None, most)
    except Exception as error:
        return {**row, "failed": {"drawing": f"raised {type(error).__name__}: {error}"}, "operators": []}
    backends = [b for b in BACKENDS if torch or b != "torch"]
    found = compare(program, backends, plan_kernels=loops)
    row.update(operators=program.operators(), calls=len(program.steps), inplace=sum(s.inplace for s in program.steps))
    row.update(order=found.order, compared=found.compared, refused=found.refused, failed=found.failed)
    if found.failed:
        way = next(iter(found.failed))
        only = [way] if way in BACKENDS else backends[:1]
        kind = found.failed[way].startswith("raised")

        def fails(p: Any) -> bool:
            again = compare(p, only, plan_kernels=loops).failed
            return way in again and again[way].startswith("raised") == kind

        try:
            smallest = minimize(program, fails)
            row.update(program=smallest.code(), message=compare(smallest, only, plan_kernels=loops).failed[way])
        except Exception as error:
            row.update(program=program.code(), message=f"not made smaller: {type(error).__name__}: {error}")
    row["seconds"] = round(time.perf_counter() - start, 3)
    return row


def _work(task: tuple[int, int, bool, bool]) -> dict[str, Any]:
    return try_program(*task)


def _start() -> None:
    try:
        import torch

        torch.set_num_threads(1)
    except ImportError:
        pass


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file; a last one that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def summary(rows: Iterable[dict[str, Any]]) -> str:
    """Counts in words, then every difference with its program."""
    rows = list(rows)
    compared: Counter[str] = Counter()
    arrays: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    failed = [r for r in rows if r["failed"]]
    for row in rows:
        compared.update(row.get("compared", {}).keys())
        arrays.update(row.get("compared", {}))
        refused.update(row.get("refused", {}).keys())
        operators.update(row["operators"])
    orders = Counter(r.get("order") for r in rows)
    lines = [
        f"{len(rows)} programs of {sum(r.get('calls', 0) for r in rows)} calls ({sum(r.get('inplace', 0) for r in rows)} in place) of "
        f"{len(operators)} operators; {sum(r['loops'] for r in rows)} with loops at every size; derivatives of order 2: {orders[2]}, "
        f"1: {orders[1]}",
        *(f"  {way}: {count} programs, {arrays[way]} arrays compared" for way, count in sorted(compared.items())),
        *(f"  {way}: {count} programs refused" for way, count in sorted(refused.items())),
        f"{len(failed)} programs differ",
    ]
    for row in failed:
        lines.append(f"\nseed {row['seed']}: {row['failed']}\n{row.get('message', '')}\n{row.get('program', '')}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--most", type=int, default=8, help="drawn calls of a program (default: 8)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--loops-every", type=int, default=0, metavar="N", help="every n-th program with loops at every size")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after this time; the same command goes on later"
    )
    parser.add_argument("--results", type=Path, default=Path("programs.jsonl"))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        known = {row["seed"] for row in rows_of(options.results)}
        tasks = [
            (seed, options.most, bool(options.loops_every) and seed % options.loops_every == 0, not options.no_torch)
            for seed in range(options.first, options.first + options.count)
            if seed not in known
        ]
        end = time.monotonic() + options.seconds
        context = multiprocessing.get_context("spawn")
        with context.Pool(options.processes, _start, maxtasksperchild=500) as pool, options.results.open("a") as file:
            for row in pool.imap_unordered(_work, tasks):
                file.write(json.dumps(row) + "\n")
                file.flush()
                if row["failed"]:
                    print(f"seed {row['seed']}: {row['failed']}", file=sys.stderr, flush=True)
                if time.monotonic() > end:
                    pool.terminate()
                    break
    rows = rows_of(options.results)
    print(summary(rows))
    return 1 if any(r["failed"] for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
