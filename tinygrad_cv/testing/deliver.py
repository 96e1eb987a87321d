"""Where a long run of the kit leaves what it found: on the screen, as JSON, between two marks of a document."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..files import write_atomically

Marks = tuple[str, str]


def add_options(parser: argparse.ArgumentParser, marks: Marks) -> None:
    """The options `--json` and `--write`."""
    parser.add_argument("--json", type=Path, default=None, help="write every outcome to this file too")
    parser.add_argument(
        "--write", type=Path, default=None, metavar="FILE", help=f"put the report between {marks[0]} and {marks[1]} of FILE"
    )


def deliver(given: argparse.Namespace, outcomes: Sequence[Any], text: str, marks: Marks, started: float) -> None:
    """Prints the report `text` and the seconds since `started` (of `time.perf_counter`), and writes what the options ask for.

    outcomes: dataclasses, for the JSON file.
    """
    if given.json is not None:
        write_atomically(given.json, json.dumps([asdict(o) for o in outcomes], indent=1).encode())
    print(text)
    if given.write is not None:
        write_between(given.write, marks, text)
    print(f"\n{time.perf_counter() - started:.0f} s")


def write_between(path: Path, marks: Marks, text: str) -> None:
    """Puts `text` between two marks of a file. ValueError where the file has them not once each, in order."""
    page = path.read_text(encoding="utf-8")
    before, found, rest = page.partition(marks[0])
    _, also, after = rest.partition(marks[1])
    if not found or not also:
        raise ValueError(f"{path}: expected the lines {marks[0]} and {marks[1]}")
    write_atomically(path, f"{before}{marks[0]}\n\n{text}\n\n{marks[1]}{after}".encode())


__all__ = ["add_options", "deliver", "write_between"]
