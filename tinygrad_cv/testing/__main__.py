"""`python -m tinygrad_cv.testing [NAME ...]`: checks operators (all if none is named), a line each; exit status 1 on failure."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from .. import registry
from . import check_op


def main(arguments: list[str] | None = None) -> int:
    """Runs the checks that the command line asks for; the number of operators that failed decides the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tinygrad_cv.testing", description="Checks registered operators.")
    parser.add_argument("names", nargs="*", help="operators to check (default: all)")
    parser.add_argument("--examples", type=int, default=20, help="calls drawn for each operator (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (default 0)")
    parser.add_argument("--quiet", action="store_true", help="print only failures and the totals")
    given = parser.parse_args(arguments)
    try:
        operators = [registry.get(name) for name in given.names] or registry.operators()
    except KeyError as error:
        parser.error(error.args[0])
    failed, examples, checks, seconds = [], 0, Counter[str](), 0.0
    for operator in operators:
        result = check_op(operator, examples=given.examples, seed=given.seed, raise_exception=False)
        examples, checks, seconds = examples + result.examples, checks + result.checks, seconds + result.seconds
        if not result.passed:
            failed.append(operator.name)
            print(f"FAILED {operator.name}\n{result.failure}\n", flush=True)
        elif not given.quiet:
            detail = ", ".join(f"{number} {kind}" for kind, number in result.checks.items())
            print(f"ok     {operator.name:<28} {result.examples} examples, {result.seconds:.2f} s ({detail})", flush=True)
    print(f"{len(operators)} operators, {examples} examples, {sum(checks.values())} comparisons, {seconds:.1f} s: "
          + (f"{len(failed)} FAILED ({', '.join(failed)})" if failed else "all ok"))  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
