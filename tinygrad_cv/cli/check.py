"""`tinygrad-cv check`: the test kit on registered operators, without a test file."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import add_command


def add_commands(commands: Any) -> None:
    """Registers `check`."""
    parser = add_command(
        commands,
        "check",
        "test registered operators: values, layouts, kernels, gradients to second order",
        [
            "check my_package",
            "check 'my_package.*' softmax --examples 100",
            "check my_package --mutate",
            "check --report all.json",
        ],
    )
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="operator, package or 'package.name' with * and ? (default: all)"
    )
    parser.add_argument("--examples", type=int, default=20, help="calls drawn for each operator (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write what was compared of each operator to this JSON file"
    )
    parser.add_argument(
        "--mutate", action="store_true", help="also make the backward rules wrong, and see that the checks notice"
    )
    parser.set_defaults(run=check)


def check(options: argparse.Namespace) -> int:
    """Checks the operators, a line each; exit status 1 if one fails (or, with --mutate, if a wrong rule is not noticed)."""
    from ..testing import check_op
    from ..testing.mutation import mutate, report
    from ..testing.selection import full_name, select, write_report

    if options.examples < 1:
        raise ValueError(f"check: --examples must be at least 1, got {options.examples}")
    operators = select(options.patterns or ["*"])
    results, failed = [], []
    width = max(len(full_name(o)) for o in operators)
    for operator in operators:
        result = check_op(operator, examples=options.examples, seed=options.seed, raise_exception=False)
        results.append(result)
        if not result.passed:
            failed.append(operator.name)
        if not options.json:
            detail = ", ".join(f"{number} {kind}" for kind, number in result.checks.items())
            line = f"ok      {full_name(operator):<{width}}  {result.examples} examples, {result.seconds:.2f} s ({detail})"
            print(line if result.passed else f"FAILED  {full_name(operator)}\n{result.failure}\n", flush=True)
    if options.report is not None:
        write_report(options.report, results, f"{options.examples} examples, seed {options.seed}")
    survived = 0
    if options.mutate and not failed:
        outcomes = mutate([o.name for o in operators if o.rules or o.joint_rule])
        survived = sum(o.status in ("survived", "crashed") for o in outcomes)
        if not options.json:
            print(f"\n{report(outcomes)}\n")
    if options.json:
        print(json.dumps([{**asdict(r), "passed": r.passed} for r in results]))
    else:
        compared = sum(sum(r.checks.values()) for r in results)
        verdict = f"{len(failed)} FAILED ({', '.join(failed)})" if failed else "all ok"
        print(f"{len(operators)} operators, {sum(r.examples for r in results)} examples, {compared} comparisons: {verdict}")
    return 1 if failed or survived else 0
