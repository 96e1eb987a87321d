"""Wrong kernels are made from right ones, and noticed; the checks with all work shared out hold for the right ones."""

from __future__ import annotations

import ast
import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from tinygrad_cv import registry
from tinygrad_cv.domain import call
from tinygrad_cv.testing.kernel_mutants import FAMILIES, KINDS, KernelOutcome, changes, mutate_kernels, report, sites
from tinygrad_cv.testing.large import LARGE, check_large, check_shares, everything_shared
from tinygrad_cv.testing.mutants import with_node
from tinygrad_cv.testing.samples import Sample
from tinygrad_cv.testing.special import POINTS, SPECIAL

SOURCE = """
def body(x, out, shares, share):
    for i in range(*span(x.shape[0], shares, share)):
        for j in range(x.shape[1]):
            if x[i, j] > 0:
                out[i] += x[i, j]
"""


def _made() -> dict[str, list[str]]:
    tree = ast.parse(SOURCE)
    found: dict[str, list[str]] = {}
    for kind, _, position, changed in changes(tree):
        found.setdefault(kind, []).append(ast.unparse(with_node(tree, position, changed)))
    return found


def test_each_kind_of_mistake_is_made() -> None:
    found = _made()
    assert set(found) == set(KINDS)
    assert any("span(x.shape[0], shares, 0)" in text for text in found["race"])
    assert any("out[0] += x[i, j]" in text for text in found["race"])
    assert any("out[i] = x[i, j]" in text for text in found["race"])
    assert any("x[i, j] >= 0" in text for text in found["bounds"])
    assert any("x[j, i]" in text for text in found["stride"])
    assert any("range(x.shape[1] - 1)" in text for text in found["tail"])


@pytest.mark.parametrize("family", FAMILIES)
def test_families_have_sources_and_operators(family: str) -> None:
    modules, operators = FAMILIES[family]
    found = sites(family, 3)
    assert found and {s.module for s in found} <= set(modules)
    assert all(registry.get(name) for name in operators)
    for kind in KINDS:
        assert len([s for s in found if s.kind == kind]) <= 3


def test_unknown_families_are_refused_before_any_work() -> None:
    with pytest.raises(KeyError, match="softmax"):
        mutate_kernels(["sofmax"])


def test_the_report_counts_what_was_noticed() -> None:
    kinds = [("race", "killed"), ("bounds", "crashed"), ("tail", "survived"), ("stride", "equivalent")]
    text = report([KernelOutcome("pool", "pool.max", kind, "a became b", status) for kind, status in kinds])
    assert "4 mutants, 66.7 % of the 3 counted ones noticed" in text
    assert "- `pool.max`: tail; a became b" in text


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_wrong_kernels_of_a_family_are_noticed() -> None:
    outcomes = mutate_kernels(["softmax"], 2)
    assert len(outcomes) >= 6
    assert {o.status for o in outcomes} <= {"killed", "crashed", "equivalent"}


@pytest.mark.parametrize("name", ["softmax", "sum", "max_pool_input_grad", "embedding_backward"])
def test_kernels_are_right_however_work_is_shared(name: str) -> None:
    check_large(name, draws=1)


def test_a_result_that_depends_on_shares_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinygrad_cv.ops.cpu import softmax

    real = softmax.run_shares

    def without_the_last(body: Any, shares: int, *arguments: Any) -> None:
        real(body, max(1, shares - 1), *arguments)

    monkeypatch.setattr(softmax, "run_shares", without_the_last)
    if __import__("tinygrad_cv").kernels.threads.limit() < 2:
        pytest.skip("one thread")
    with pytest.raises(AssertionError, match="in shares"):
        check_shares(Sample(registry.get("softmax"), call(np.arange(12.0).reshape(6, 2), 1)))


def test_thresholds_are_restored() -> None:
    from tinygrad_cv.ops.cpu import softmax

    before = softmax._PARALLEL_ELEMENTS
    with pytest.raises(ZeroDivisionError), everything_shared():
        assert softmax._PARALLEL_ELEMENTS == 0
        raise ZeroDivisionError
    assert before == softmax._PARALLEL_ELEMENTS


def test_large_calls_and_points_name_operators() -> None:
    assert all(registry.get(name) for name in (*LARGE, *POINTS))
    assert len(SPECIAL) == 3
