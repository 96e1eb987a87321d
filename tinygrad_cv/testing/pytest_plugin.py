"""pytest --tg-ops "my_package.*": every matching operator as a test of its own, with nothing to write.

    pytest --tg-ops my_package                       every operator of the package, beside the tests that pytest finds anyway
    pytest --tg-ops "my_package.*" --tg-profile thorough --tg-report operators.json

Found by pytest through its entry point. Without `--tg-ops` it collects nothing and imports nothing else of the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_operators = pytest.StashKey[list[Any]]()
_results = pytest.StashKey[list[Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the group "tinygrad_cv"."""
    group = parser.getgroup("tinygrad_cv", "gradient tests of registered operators")
    group.addoption(
        "--tg-ops",
        action="append",
        default=[],
        metavar="PATTERN",
        help="test the operators of this name, or 'package.name'; * and ? match (may be given several times)",
    )
    group.addoption("--tg-profile", default="quick", choices=("quick", "thorough"), help="examples for each (default: quick)")
    group.addoption("--tg-report", type=Path, metavar="FILE", help="write what was compared of each operator to this JSON file")


def pytest_collection(session: pytest.Session) -> None:
    """Refuses a pattern that matches nothing before anything is collected."""
    if session.config.option.tg_ops:
        from .selection import select

        try:
            session.config.stash[_operators] = select(session.config.option.tg_ops)
        except KeyError as error:
            raise pytest.UsageError(f"--tg-ops: {error.args[0]}") from None


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Adds an item for each operator."""
    operators = config.stash.get(_operators, [])
    if operators:
        config.stash[_results] = []
        group = OperatorGroup.from_parent(session, name="tg-ops", nodeid="tg-ops")
        items.extend(group.items(operators))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the report that --tg-report asks for."""
    results = session.config.stash.get(_results, None)
    if results is not None and session.config.option.tg_report is not None:
        from .selection import write_report

        write_report(session.config.option.tg_report, results, session.config.option.tg_profile)


class OperatorGroup(pytest.Collector):
    """The operators that were asked for; no file stands behind them."""

    def collect(self) -> Iterator[pytest.Item]:
        """Nothing by itself: the operators are chosen once the command line is read."""
        return iter(())

    def items(self, operators: list[Any]) -> Iterator[pytest.Item]:
        """One item for each operator."""
        from .selection import full_name

        for operator in operators:
            yield OperatorItem.from_parent(self, name=full_name(operator), operator=operator)


class OperatorItem(pytest.Item):
    """All checks of one operator, on calls that Hypothesis draws from its domain."""

    def __init__(self, *, operator: Any, **options: Any) -> None:
        super().__init__(**options)
        self.operator = operator

    def runtest(self) -> None:
        """Runs the checks."""
        from . import OpResult, op_test
        from .selection import PROFILES

        profile = self.config.option.tg_profile
        result = OpResult(self.operator.name, self.operator.provider, 0)
        self.config.stash[_results].append(result)
        op_test(self.operator, result, **PROFILES[profile])()
        self.user_properties.append(("examples", result.examples))
        self.user_properties.append(("comparisons", sum(result.checks.values())))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The check's own message, which holds a program that repeats the failure; a traceback for anything else."""
        from . import OpCheckError

        if isinstance(excinfo.value, OpCheckError):
            notes = "".join(f"\n{note}" for note in getattr(excinfo.value, "__notes__", ()))
            return f"{excinfo.value}{notes}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """What pytest shows as the test's place."""
        return "tg-ops", None, f"tg-ops::{self.name}"
