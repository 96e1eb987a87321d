"""Which operators a pattern names, how thoroughly they are tested, and the report about them: what pytest and `tinygrad-cv check` share."""

from __future__ import annotations

import difflib
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from .._version import __version__
from ..files import write_atomically
from ..registry import Operator
from . import OpResult

PROFILES: dict[str, dict[str, Any]] = {
    "quick": {"max_examples": 12, "derandomize": True},
    "thorough": {"max_examples": 200, "print_blob": True},
}


def full_name(operator: Operator) -> str:
    """'package.operator', with the package's name as Python spells it: my_package.swish of the distribution My-Package."""
    return f"{operator.provider.replace('-', '_').lower()}.{operator.name}"


def select(patterns: Sequence[str]) -> list[Operator]:
    """The operators whose name, or package and name, match any of the patterns: "swish", "my_package.*", "my_package", "*pool*".

    KeyError, naming the packages that have operators, for a pattern that matches none.
    """
    available = registry.operators()
    chosen: dict[str, Operator] = {}
    for pattern in patterns:
        wanted = pattern.replace("-", "_")
        found = [
            o
            for o in available
            if fnmatchcase(o.name, wanted)
            or fnmatchcase(full_name(o), wanted)
            or full_name(o).removesuffix(f".{o.name}") == wanted.lower()
        ]
        if not found:
            raise KeyError(_nothing(pattern, available))
        chosen.update((o.name, o) for o in found)
    return [chosen[name] for name in sorted(chosen)]


def _nothing(pattern: str, available: list[Operator]) -> str:
    packages = sorted({o.provider for o in available})
    near = difflib.get_close_matches(pattern, [o.name for o in available], 3)
    broken = registry.failed_plugins()
    return (
        f"no operator matches {pattern!r}; packages with operators: {', '.join(packages)}"
        + (f"; near names: {', '.join(near)}" if near else "")
        + "".join(f"; the plugin {name} could not be loaded: {reason}" for name, reason in broken.items())
    )


def write_report(path: Path, results: Iterable[OpResult], profile: str) -> None:
    """Writes what was run as JSON: versions, the profile, and one entry for each operator with its counts, seconds and failure."""
    rows = [{**asdict(r), "passed": r.passed, "checks": dict(r.checks)} for r in results]
    document = {
        "tinygrad_cv": __version__,
        "api_version": registry.API_VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "profile": profile,
        "passed": all(r["passed"] for r in rows),
        "operators": rows,
    }
    write_atomically(path, json.dumps(document, indent=1).encode())


__all__ = ["PROFILES", "full_name", "select", "write_report"]
