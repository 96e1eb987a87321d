"""Measures this package against PyTorch, NumPy and JAX: `python benchmarks/run.py [--only GROUP] [--quick] [--write]`.

Prints a table for each group; `--write` keeps them in benchmarks/README.md and benchmarks/results.json. How it measures is said in
suite/timing.py, how to read the tables in README.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

GROUPS = (
    "machine", "gemm", "convolution", "operators", "chain", "training", "inference", "scaling", "memory", "starting",
)  # fmt: skip
PINS = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "MKL_ENABLE_INSTRUCTIONS",
)  # settings that hold a library back from its best kernels
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=GROUPS, help="measure this group (again for several); default: all")
    parser.add_argument("--quick", action="store_true", help="small cases, hardly timed: shows that the program works")
    parser.add_argument("--write", action="store_true", help="keep the tables in benchmarks/README.md and results.json")
    parser.add_argument("--anyway", action="store_true", help="measure on a noisy machine too; the table will say so")
    parser.add_argument(
        "--patience", type=float, default=60, metavar="S", help="seconds to wait for a quiet machine (default: 60)"
    )
    parser.add_argument("--threads", type=int, default=cores(), help="threads for every library (default: all cores)")
    parser.add_argument("--blocks", type=int, default=7, help="blocks for each entrant (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.25, help="seconds a block lasts (default: 0.25)")
    options = parser.parse_args(given)
    if options.quick and options.write:
        parser.error("--quick measures nothing that is worth keeping: leave --write out")
    if not 1 <= options.threads <= cores():
        parser.error(f"--threads must lie between 1 and {cores()}, got {options.threads}")
    if options.blocks < 1 or options.seconds <= 0:
        parser.error("--blocks and --seconds must be positive")
    return options


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(threads: int) -> None:
    """The environment in which every library is at its best and has the same threads; before NumPy is imported."""
    for name in PINS:
        os.environ.pop(name, None)
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity") and threads < cores():
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def environment(threads: int) -> str:
    """What was measured with what, in a sentence."""
    import importlib.metadata
    import platform

    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index, call-overload]
    packages = {"tinygrad_cv": "tinygrad_cv", "Numba": "numba", "PyTorch": "torch", "JAX": "jax"}
    shown = ", ".join(f"{label} {version(package)}" for label, package in packages.items())
    return (
        f"{shown}, NumPy {np.__version__} ({blas['name']} {blas['version']}), Python {platform.python_version()}, "
        f"{threads} thread{'s' if threads > 1 else ''} of {os.cpu_count()} cores, {processor()}."
    )


def processor() -> str:
    """The processor's name."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def functions() -> dict[str, Callable[[Any], Any]]:
    """The function of each group."""
    from suite import convolutions, machine, memory, operators, products, scaling, starting, training

    return {
        "machine": machine.group,
        "gemm": products.group,
        "convolution": convolutions.group,
        "operators": operators.group,
        "chain": operators.chain_group,
        "training": training.group,
        "inference": training.inference_group,
        "scaling": scaling.group,
        "memory": memory.group,
        "starting": starting.group,
    }


def main(given: list[str] | None = None) -> int:
    """Measures, prints, and on request keeps. Exit status: 0 done, 1 a result was wrong, 2 wrong use, 3 the machine is too noisy."""
    options = arguments(given)
    prepare(options.threads)
    try:
        import torch  # noqa: F401
    except ImportError:
        print("benchmarks/run.py: error: PyTorch is what is compared with; pip install torch", file=sys.stderr)
        return 2

    from dataclasses import asdict

    from suite import libraries, machine, report, timing

    libraries.set_threads(options.threads)
    plan = timing.QUICK if options.quick else timing.Plan(options.blocks, options.seconds)
    meter = machine.Meter(options.threads)
    context: libraries.Context | None = None
    groups, described = report.load(), environment(options.threads)
    status = 0
    for name in options.only or GROUPS:
        even, noise = (True, 1.0) if options.quick else machine.quiet(meter, options.patience)
        if not even and not options.anyway:
            print(_refusal(name, noise, machine.NOISE_BOUND, options.patience), file=sys.stderr)
            status = 3
            break
        if context is None:
            context = libraries.Context(plan, options.threads, machine.measure(meter, options.quick))
        started = time.perf_counter()
        rows = []
        for row in functions()[name](context):
            rows.append(row)
            if sys.stderr.isatty():
                print(
                    f"\r{name}: {len(rows)} cases, {time.perf_counter() - started:.0f} s ", end="", file=sys.stderr, flush=True
                )
        print(f"\r{name}: {len(rows)} cases in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        if not options.quick:
            still, after = machine.quiet(meter, 0)
            even, noise = even and still, max(noise, after)
        groups[name] = {
            "date": date.today().isoformat(), "environment": described, "machine": asdict(context.machine), "noisy": not even,
            "noise": noise, "rows": rows,
        }  # fmt: skip
        print(report.section(name, groups[name]), flush=True)
        if options.write:
            report.save(groups)
        if any(row.get("wrong") for row in rows):
            status = 1
    return status


def _refusal(name: str, noise: float, bound: float, patience: float) -> str:
    return (
        f"benchmarks/run.py: the machine is too noisy to measure {name}: one and the same work took up to {noise:.2f} times as long, "
        f"allowed is {bound} (after waiting {patience:.0f} s). Close other programs, or measure with --anyway, which marks the table."
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.exit(main())
