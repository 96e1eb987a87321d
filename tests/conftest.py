"""Profiles of the property tests, and the count of examples that ends a run.

pytest                                   quick: a dozen examples for each operator, the same ones every time
pytest --hypothesis-profile=thorough     two hundred, new ones every time (also TINYGRAD_CV_PROFILE=thorough)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import tinygrad_cv as tg
from tinygrad_cv import registry
from tinygrad_cv.extend import op

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=12, derandomize=True, **_COMMON)
settings.register_profile("thorough", max_examples=200, print_blob=True, **_COMMON)
settings.load_profile(os.environ.get("TINYGRAD_CV_PROFILE", "quick"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `thorough` run under that profile, or where -m asks for them."""
    if config.option.markexpr or "thorough" in (
        config.getoption("--hypothesis-profile"),
        os.environ.get("TINYGRAD_CV_PROFILE"),
    ):
        return
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker(pytest.mark.skip(reason="long: run it with --hypothesis-profile=thorough or -m thorough"))


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    """Every test starts from one seed and the default switches, and must leave the switches as they were."""
    tg.manual_seed(0)
    np.random.seed(0)
    yield
    recording = tg.is_grad_enabled()
    tg.set_grad_enabled(True)
    assert recording and not tg.is_inference_mode_enabled(), "the test left gradient recording switched"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Adds up what the tests recorded with record_property (which also travels from parallel workers)."""
    totals: dict[str, int] = {}
    for report in (r for reports in terminalreporter.stats.values() for r in reports):
        if getattr(report, "when", "") == "call":
            for key, value in report.user_properties:
                if key in ("operators", "examples", "comparisons"):
                    totals[key] = totals.get(key, 0) + value
    if totals.get("operators"):
        terminalreporter.write_line(
            f"operators walked: {totals['operators']}, Hypothesis examples run: {totals['examples']}, "
            f"single comparisons: {totals['comparisons']}"
        )


@pytest.fixture
def declared() -> Iterator[Callable[..., Any]]:
    """`@declared(name, ...)` is `@op(name, ...)` for as long as the test runs."""
    names: list[str] = []

    def declare(name: str, **options: Any) -> Any:
        names.append(name)
        return op(name, **options)

    yield declare
    for name in {*names} & {o.name for o in registry.operators(plugins=False)}:  # a refused declaration left none
        registry.unregister(name)
