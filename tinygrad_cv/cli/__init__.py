"""The command `tinygrad-cv`. One module a subject; this one reads the arguments and turns errors into one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .._version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0 done, 1 a failed task, 2 wrong use, 130 interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help()
        return 2
    try:
        status: int = options.run(options)
        return status
    except KeyboardInterrupt:
        print("tinygrad-cv: interrupted" + getattr(options, "interrupt_hint", ""), file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except (ValueError, TypeError, IndexError, KeyError, RuntimeError, OSError, ImportError) as error:
        if options.debug:
            raise
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        print(f"tinygrad-cv: error: {message}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from . import check, evaluate, explain, inspect, machine, new_op, profile, train, warmup

    parser = argparse.ArgumentParser(
        prog="tinygrad-cv",
        description="Train, use and look into vision models with tinygrad_cv.",
        epilog="examples:\n"
        "  tinygrad-cv train lenet5 --seed 0 --out runs/lenet5\n"
        "  tinygrad-cv predict digit.png --model runs/lenet5/model.safetensors\n"
        "  tinygrad-cv graph lenet5 -o lenet5.svg\n"
        '  tinygrad-cv explain "(x + y) * z" x=-2 y=5 z=-4 -o page.html\n'
        "  tinygrad-cv ops --search pool",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tinygrad-cv {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (train, evaluate, inspect, explain, profile, check, new_op, warmup, machine):
        module.add_commands(commands)
    return parser


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help: str, examples: Sequence[str]
) -> argparse.ArgumentParser:
    """A sub-command with the options that all share."""
    parser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  tinygrad-cv {e}" for e in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output (last line)")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, metavar="N", help="number of threads (default: all cores)")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def prepare(options: argparse.Namespace) -> None:
    """Applies the shared options. RuntimeError for a device that is not there, ValueError for a bad thread count."""
    import tinygrad_cv as tg

    tg.device(options.device).require()
    if options.threads is not None:
        tg.set_num_threads(options.threads)
