"""What the kit checks of an operator besides its numbers: each misbehaviour is planted once, and must be named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import kernels, registry
from tinygrad_cv.domain import NumpyDraw
from tinygrad_cv.extend import Array, Batched, Composite, Elementwise, Op, Real, call, elementwise
from tinygrad_cv.testing import OpCheckError, OpResult, Sample, check_op
from tinygrad_cv.testing.kernel_checks import check_threads, enlarged, plan_against_eager, thread_count


@pytest.fixture
def declared(declared: Any) -> Any:
    """Registers operators like `doubled` under the names of their classes."""

    def declare(declaration: type[Op], **options: Any) -> Any:
        given = {"domain": elementwise(Real(0.5, 2)), "formula": "2 input", **options}
        return declared(declaration.__name__, **given)(declaration)

    return declare


def doubled(name: str = "doubled", **members: Any) -> type[Op]:
    """A declaration of 2 x, right but for `members`."""

    def reference(input: Array) -> np.ndarray:
        return input * 2

    given = {"__doc__": "Twice the input.", "reference": reference, "grad_input": lambda upstream: upstream * 2, **members}
    return type(name, (Elementwise,), given)


def failure(operator: Any, **options: Any) -> str:
    with pytest.raises(OpCheckError) as error:
        check_op(operator, examples=4, **options)
    return str(error.value)


def test_a_right_operator_passes_all_of_them(declared: Any) -> None:
    checks = check_op(declared(doubled(int_to_float=True)), examples=2).checks
    for kind in (
        "aliasing",
        "refused call",
        "repeated call",
        "memory freed",
        "dtype rule",
        "batch",
        "forward mode",
        "compiled plan",
    ):
        assert checks[kind] > 0, kind


# Aliasing ------------------------------------------------------------------------------------------------------------------


def test_a_result_that_is_its_operands_memory_is_caught(declared: Any) -> None:
    def reference(input: Array) -> np.ndarray:
        return input[...]

    message = failure(
        declared(doubled(reference=reference, grad_input=lambda upstream: upstream * 1), domain=elementwise(Real()))
    )
    assert "check_aliasing" in message and "result 0 shares memory with 'input'" in message and "declare view=True" in message


def test_a_view_that_is_a_copy_is_caught(declared: Any) -> None:
    class reversed_rows(Op):
        """The rows backwards."""

        view = True

        def reference(input: Array) -> np.ndarray:
            return input[::-1].copy()

        def grad_input(upstream: Any) -> Any:
            return upstream.flip(0)

    message = failure(declared(reversed_rows, domain=lambda draw: call(draw.real(draw.shape(2)))))
    assert "result 0 is not a view of an operand, though the operator is declared view=True" in message


def test_a_composition_may_return_its_operand_or_a_view(declared: Any) -> None:
    class kept(Composite):
        """The input."""

        def reference(input: Array) -> np.ndarray:
            return input

        def compose(input: Any) -> Any:
            return input

    assert check_op(declared(kept), examples=2).checks["aliasing"] == 2


# Refused calls ---------------------------------------------------------------------------------------------------------------


def test_random_numbers_drawn_before_the_error_are_caught(declared: Any) -> None:
    def prepare(input: Any) -> Any:
        tg.rand(3)
        if input.dim() > 4:
            raise ValueError(f"doubled: expected at most four axes, got shape {input.shape}")
        return (input,)

    message = failure(declared(doubled(prepare=prepare)))
    assert "check_refused" in message and "random numbers were drawn after text for 'input' was refused (TypeError)" in message


def test_operands_written_before_the_error_are_caught(declared: Any) -> None:
    def reference(input: Array, other: Array) -> np.ndarray:
        return input * other

    def prepare(input: Any, other: Any) -> Any:
        if not isinstance(other, tg.Tensor):
            input._data[...] = 0
            raise TypeError(f"doubled: expected a Tensor for `other`, got {type(other).__name__}")
        return input, other

    rules = {"grad_input": lambda upstream, other: upstream * other, "grad_other": lambda upstream, input: upstream * input}
    message = failure(declared(doubled(reference=reference, prepare=prepare, **rules), domain=elementwise(Real(), Real())))
    assert "operand 0 is changed after text for 'other' was refused (TypeError)" in message


# Memory, determinism, dtypes, batches -----------------------------------------------------------------------------------------


def test_a_reference_cycle_is_caught(declared: Any) -> None:
    def rule(upstream: Any) -> Any:
        gradient = upstream * 2
        gradient.cycle = [gradient]
        return gradient

    message = failure(declared(doubled(grad_input=rule)))
    assert "check_memory" in message and "a gradient alive after backward: a reference cycle" in message


def test_results_kept_in_a_global_place_are_caught(declared: Any) -> None:
    kept: list[Any] = []

    def compose(input: Any) -> Any:
        kept.append(input * 2)
        return kept[-1]

    def reference(input: Array) -> np.ndarray:
        return input * 2

    declaration = type("doubled", (Composite,), {"__doc__": "Twice.", "reference": reference, "compose": compose})
    assert "a result" in failure(declared(declaration)) and kept


def test_two_calls_that_differ_in_a_bit_are_caught(declared: Any) -> None:
    calls: list[int] = []

    def reference(input: Array) -> np.ndarray:
        calls.append(0)
        return input * 2 * (1 + 3e-16 * (len(calls) % 3))

    operator = declared(doubled(reference=reference, differentiable=False))
    assert "two calls with the same operands differ in their bits" in failure(operator)


def test_a_dtype_that_a_promotion_loses_is_caught(declared: Any) -> None:
    def reference(input: Array, other: Array) -> np.ndarray:
        return input + other

    class lowered(Elementwise):
        """input + other, rounded where one of them is exact in float32."""

        int_to_float = True

        def reference(input: Array) -> np.ndarray:
            return (input * 2).astype(np.float64 if not (input % 1).any() else input.dtype)

        def grad_input(upstream: Any) -> Any:
            return upstream * 2

    assert "integers give float64, expected the default dtype float32" in failure(declared(lowered))


def test_an_elementwise_operator_that_looks_at_its_neighbours_is_caught(declared: Any) -> None:
    def reference(input: Array) -> np.ndarray:
        return input * 2 + 0 * input if input.ndim < 2 else input * 2 + (input - input[:1])

    message = failure(declared(doubled(reference=reference, differentiable=False)))
    assert "check_batches" in message and "of a batch against a call of its own" in message


# Kernels and plans ----------------------------------------------------------------------------------------------------------


def _by_threads(input: np.ndarray) -> np.ndarray:
    """A kernel whose last digits depend on the threads, as those of a sum do that is added up by thread."""
    threads = 1 if kernels.threads.prepare() else kernels.get_num_threads()
    return np.asarray(input * input.dtype.type(2 + 1e-6 * (threads - 1)))


def test_a_kernel_whose_result_depends_on_the_threads_is_caught(declared: Any) -> None:
    if kernels.threads.limit() < 2:
        pytest.skip("needs two threads")
    operator = declared(doubled(differentiable=False), kernels={"cpu": _by_threads})
    sample = Sample(operator, operator.domain(NumpyDraw(0)), 0)
    with pytest.raises(
        AssertionError, match=r"values of result 0 in float32 with 2 threads differ from the serial kernel's in \d+ of"
    ):
        check_threads(sample, OpResult("doubled", "", 0))


def test_structured_operators_are_enlarged_along_the_batch_they_declare() -> None:
    operator = registry.get("conv2d")
    assert any(isinstance(law, Batched) for law in operator.laws)
    x, w = np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3))
    big = enlarged(Sample(operator, call(x, w)))
    assert big is not None and big.arrays[0].shape[1:] == x.shape[1:] and big.arrays[0].size >= 70_000
    assert big.arrays[1].shape == w.shape
    assert enlarged(Sample(registry.get("sum"), call(x))) is None


def test_thread_counts_are_as_before_afterwards() -> None:
    before = tg.get_num_threads()
    with pytest.raises(ZeroDivisionError), thread_count(1):
        assert tg.get_num_threads() == 1 and tg.are_deterministic_algorithms_enabled()
        raise ZeroDivisionError
    assert tg.get_num_threads() == before and not tg.are_deterministic_algorithms_enabled()


def _write_doubled(input: np.ndarray, out: np.ndarray) -> Any:
    """What plans call instead of the reference, a little wrong."""
    return np.multiply(input, 2.01, out=out)


def test_a_plan_that_computes_something_else_is_caught(declared: Any) -> None:
    operator = declared(doubled(into=f"{__name__}:_write_doubled"))
    with pytest.raises(AssertionError, match="compiled plan against eager, result or gradient 0"):
        plan_against_eager(operator, call(np.linspace(1, 2, 8)))
    assert "check_plan" in failure(operator)


# The message ---------------------------------------------------------------------------------------------------------------

BY_HAND = """
import numpy as np
from tinygrad_cv.extend import Array, Elementwise, Real, elementwise, op
from tinygrad_cv.testing import check_op

FACTOR = 2.002  # a tenth of a percent too much

@op("by_hand", domain=elementwise(Real()), formula="input ** 2", source="Euclid, Elements II.4")
class by_hand(Elementwise):
    '''The square.'''

    def reference(input: Array) -> np.ndarray:
        return input * input

    def grad_input(upstream, input):
        return FACTOR * upstream * input

if __name__ == "__main__":
    check_op("by_hand", seed=3)
"""


def _run(program: str, folder: Path) -> str:
    (folder / "program.py").write_text(program)
    done = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 1
    return done.stderr


def test_the_program_in_a_failure_fails_in_the_same_way(tmp_path: Path) -> None:
    told = _run(BY_HAND, tmp_path)
    first, program = told[told.index("OpCheckError: ") :].split("\n\nTo repeat it:\n\n")
    for part in ("by_hand (__main__)", "check_gradient", "seed 3", "input 0", "at index", "analytic", "numeric", "absolute error",
                 "relative error 0.001", "step", "float64", "formula: input ** 2", "source: Euclid, Elements II.4"):  # fmt: skip
        assert part in first
    again = _run(program.partition("\n(example")[0], tmp_path)
    assert again[again.index("OpCheckError: ") :].split("\n\nTo repeat it:\n\n")[0] == first


def test_the_program_of_a_call_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    from tinygrad_cv.testing.messages import call_program

    sample = Sample(registry.get("clamp"), call(np.array([[0.5, np.inf], [np.nan, -1.0]]), np.float64(-0.25), max=1.0))
    exec(call_program(sample), {})
    assert capsys.readouterr().out.split() == str(tg.tensor(np.array([[0.5, 1.0], [np.nan, -0.25]]))).split()


def test_declarations_made_by_code_are_named_in_the_program(declared: Any) -> None:
    message = failure(declared(doubled(grad_input=lambda upstream: upstream * 2.1)))
    assert "# first import what registers 'doubled'" in message
