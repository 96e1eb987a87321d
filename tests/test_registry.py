"""The registry: what a declaration must hold, who owns a name, and what a wrong backward rule says at its first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import registry
from tinygrad_cv.domain import NumpyDraw
from tinygrad_cv.extend import Array, Composite, Elementwise, Integers, OneOf, Op, Real, call, elementwise, op
from tinygrad_cv.testing import OpCheckError, check_op


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Operators that a test registers are gone after it, and replaced ones are back."""
    before = dict(registry._operators)
    yield
    for name in [n for n, o in registry._operators.items() if before.get(n) is not o]:
        registry.unregister(name)
        if name in before:
            registry._operators[name] = before[name]
            for hook in registry._registration_hooks:
                hook(before[name])
    assert registry._operators == before


def declare(name: str = "triple", base: type = Elementwise, **members: Any) -> Any:
    """Registers x -> 3 x, with members of the declaration replaced; a member that is None is left out."""
    options = {"domain": elementwise(Real()), "formula": "3 input"} | members.pop("options", {})

    def reference(input: Array) -> Any:
        return input * np.asarray(3, input.dtype)

    found = {"__doc__": "Three times input.", "reference": reference, "grad_input": lambda upstream: upstream * 3} | members
    return op(name, **options)(type(name, (base,), {k: v for k, v in found.items() if v is not None}))


def test_one_declaration_gives_function_method_gradient_and_tests() -> None:
    operator = declare()
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    assert tg.triple(x).tolist() == [3.0, 6.0] and x.triple().tolist() == [3.0, 6.0] and tg.ops.triple(x).tolist() == [3.0, 6.0]
    x.triple().sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    row = next(r for r in tg.ops.list_ops() if r["name"] == "triple")
    assert row["formula"] == "3 input" and row["provider"] == operator.provider
    assert check_op("triple").examples == 20
    registry.unregister("triple")
    assert not hasattr(tg, "triple") and not hasattr(x, "triple")


def test_a_taken_name_raises_and_names_both_owners() -> None:
    before = registry.get("exp")
    with pytest.raises(ValueError, match=r"'exp' is registered by tinygrad_cv and again by test_registry; pass override=True"):
        declare("exp")
    assert registry.get("exp") is before


def test_override_is_explicit() -> None:
    operator = declare("exp", options={"override": True})
    assert registry.get("exp") is operator
    assert tg.exp(tg.ones(1)).tolist() == [3.0] and tg.ones(1).exp().tolist() == [3.0]


@pytest.mark.parametrize(("members", "message"), [
    ({"reference": None}, "a `reference` in NumPy is required"),
    ({"grad_input": None}, r"no backward rule for input; write grad_input or backward, name it in `nondiff`, or"),
    ({"options": {"domain": None}}, "a `domain` that the tests can sample is required"),
    ({"options": {"formula": ""}}, "a `formula` and a docstring are required"),
    ({"__doc__": ""}, "a `formula` and a docstring are required"),
    ({"nondiff": ("weight",)}, r"nondiff names no tensor parameter: \['weight'\]"),
    ({"grad_input": lambda upstream, weight: upstream}, r"asks for 'weight', which is neither an input, an output, an attribute"),
])  # fmt: skip
def test_an_incomplete_declaration_is_refused_by_name(members: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"(?s)'triple'.*{message}"):
        declare(**members)
    assert registry.find("triple") is None


def test_rules_are_checked_for_every_tensor_parameter() -> None:
    def reference(input: Array, other: Array, power: float = 2.0) -> Any:
        return input * other**power

    with pytest.raises(TypeError, match="no backward rule for other"):
        declare(reference=reference, grad_input=lambda upstream, other, power: upstream * other**power)
    declare(reference=reference, grad_input=lambda upstream, other, power: upstream * other**power, nondiff=("other",))
    declare("flag", reference=lambda input: input > 0, grad_input=None, differentiable=False)


WRONG_RULES: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"grad_input": lambda upstream: upstream[:1]}, r"shape \(2,\), float32; got shape \(1,\), float32"),
    "broadcast up": ({"grad_input": lambda upstream: upstream.sum()}, r"shape \(2,\), float32; got shape \(\), float32"),
    "dtype": ({"grad_input": lambda upstream: upstream.double()}, r"shape \(2,\), float32; got shape \(2,\), float64"),
    "type": ({"grad_input": lambda upstream: 3.0}, r"got a float"),
    "array": ({"grad_input": lambda upstream: upstream.numpy()}, r"got a ndarray"),
    "too many": ({"grad_input": None, "backward": lambda upstream: (upstream, upstream)}, r"one gradient for each of its 1 .*got 2"),
    "too few": ({"grad_input": None, "backward": lambda upstream: ()}, r"one gradient for each of its 1 tensor inputs \(input\), got 0"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_RULES)
@pytest.mark.parametrize("base", [Op, Elementwise])
def test_a_wrong_backward_rule_raises_at_its_first_use(wrong: str, base: type) -> None:
    members, message = WRONG_RULES[wrong]
    declare(base=base, **members)
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    out = tg.triple(x).sum()
    with pytest.raises(RuntimeError, match=rf"(?s)triple \(from test_registry\): its backward rule must return .*{message}"):
        out.backward()
    assert x.grad is None


def test_the_kit_finds_each_kind_of_mistake() -> None:
    """A planted mistake in any part of a declaration fails `check_op`, and the message holds a program that repeats the call."""

    def good(input: Array, scale: float = 2.0) -> Any:
        return np.tanh(input * scale)

    def writes(input: Array, scale: float = 2.0) -> Any:
        out = np.tanh(input * scale)
        input[...] = 0
        return out

    right: Callable[..., Any] = lambda upstream, out, scale: upstream * (1 - out * out) * scale  # noqa: E731
    mistakes: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "check_gradient": (good, lambda upstream, out, scale: upstream * (1 - out * out), {}),
        "check_gradient, second": (good, lambda upstream, out, scale: upstream * (1 - out.detach() ** 2) * scale, {}),
        "check_value": (lambda input, scale=2.0: np.tanh(input * np.float64(scale)).astype(np.float64), right, {}),
        "check_inputs_kept": (writes, right, {}),
        "check_kinks": (good, right, {"kinks": {0.0: 7.0}}),
        "check_kernel": (good, right, {"kernels": {"cpu": lambda input, scale: np.tanh(input * scale) * 1.01}}),
    }
    domain = elementwise(Real(-1, 1), scale=Real(0.5, 1.5))
    for where, (reference, rule, options) in mistakes.items():
        reference.__annotations__ = {"input": Array, "scale": float}
        declare("planted", reference=reference, grad_input=rule, options={"domain": domain, "override": True, **options})
        with pytest.raises(
            OpCheckError, match=rf"planted \(test_registry\), (check_layouts|check_value|{where.split(',')[0]})"
        ) as error:
            check_op("planted")
        assert "import tinygrad_cv as tg" in str(error.value) and "tg.ops.get('planted')" in str(error.value)
        result = check_op("planted", raise_exception=False)
        assert not result.passed and "example" in str(result.failure)
    declare("planted", reference=good, grad_input=right, options={"domain": domain, "override": True})
    assert check_op("planted").passed


def test_composites_need_no_rule_and_are_differentiated_through() -> None:
    @op("cubed", domain=elementwise(Real()), formula="input^3")
    class cubed(Composite):
        """The cube."""

        def reference(input: Array) -> Any:
            return input**3

        def compose(input: Any) -> Any:
            return input * input * input

    assert check_op("cubed").checks["second derivative"] > 0


def test_parameters_that_are_not_tensors_are_refused_with_the_operators_name() -> None:
    with pytest.raises(TypeError, match="exp: expected a Tensor for `input`, got str"):
        tg.exp("x")
    with pytest.raises(TypeError, match="cat: expected a list of Tensors, it holds a int"):
        tg.cat([tg.ones(1), 3])


def test_get_suggests_near_names() -> None:
    with pytest.raises(KeyError, match="did you mean sigmoid"):
        registry.get("sigmod")
    with pytest.raises(AttributeError):
        tg.no_such_operator  # noqa: B018


def test_attached_kernels_are_used_and_may_decline() -> None:
    calls: list[tuple[int, ...]] = []
    operator = declare()

    def kernel(input: np.ndarray) -> Any:
        calls.append(input.shape)
        return NotImplemented if input.size < 3 else input * np.asarray(3, input.dtype)

    operator.attach_kernel("cpu", kernel)
    assert tg.triple(tg.ones(2)).tolist() == [3.0, 3.0] and tg.triple(tg.ones(3)).tolist() == [3.0] * 3
    assert calls == [(2,), (3,)]
    with tg.kernels.disabled():
        tg.triple(tg.ones(4))
    assert len(calls) == 2 and "cpu" in operator.devices()


def test_every_operator_has_what_the_documentation_shows() -> None:
    for row in tg.ops.list_ops():
        operator = registry.get(row["name"])
        assert row["formula"] and operator.doc and operator.tensor_params and callable(operator.domain)
        assert operator.doc[0].isupper() or not operator.doc[0].isalpha() or operator.doc[0].islower()
        assert operator.function.__doc__ == operator.doc


def test_domains_draw_small_valid_calls() -> None:
    from tinygrad_cv.testing import Sample

    for operator in registry.operators():
        for seed in range(3):
            sample = Sample(operator, operator.domain(NumpyDraw(seed)), seed)
            assert sum(a.size for a in sample.arrays) <= 600, f"{operator.name}: arrays of {[a.shape for a in sample.arrays]}"
            finite = all(np.isfinite(a).all() for a in sample.arrays)
            assert finite or not sample.differentiable() or operator.name == "nan_to_num", operator.name
            assert all(a.dtype in (np.float64, np.int64, np.bool_) for a in sample.arrays), operator.name


def test_hypothesis_keeps_separate_keys_for_operators_and_shrinks() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis.database import InMemoryExampleDatabase

    from tinygrad_cv.testing import op_test

    sizes: list[int] = []

    def reference(input: Array) -> Any:
        sizes.append(input.size)
        return input * np.asarray(3 if input.ndim < 2 else 4, input.dtype)

    def domain(draw: Any) -> Any:  # the calls that are not Hypothesis' own show nothing, so that the mistake is left to it
        return call(draw.real(draw.shape((0, 1) if isinstance(draw, NumpyDraw) else (0, 3))))

    wrong = {"reference": reference, "options": {"domain": domain}}
    database = InMemoryExampleDatabase()
    for name in ("first", "second"):
        declare(name, **wrong)
        with pytest.raises(OpCheckError, match=rf"{name} \("):
            op_test(name, database=database, derandomize=False, max_examples=40, phases=list(hypothesis.Phase))()
    failing = [k for k in database.data if not k.endswith((b".secondary", b".pareto"))]
    assert len(failing) >= 2, "two operators, two places in the example database"
    assert sizes[-1] == 1, "the failing example has shrunk to one element"


def test_integer_domains_reach_the_operator_as_integers() -> None:
    @op("same", domain=elementwise(Integers(0, 3)), formula="input")
    class same(Elementwise):
        """Itself."""

        differentiable = False

        def reference(input: Array) -> Any:
            assert input.dtype == np.int64
            return input.copy()

    assert check_op("same", examples=5).examples == 5


def test_list_ops_tells_what_each_declaration_says():
    listed = tg.ops.list_ops()
    keys = {
        "name",
        "aliases",
        "provider",
        "formula",
        "signature",
        "devices",
        "kind",
        "rule",
        "internal",
        "domain",
        "reference",
        "test",
    }
    assert len(listed) > 300 and all(
        set(o) == keys and all(o[k] for k in keys - {"aliases", "devices", "internal"}) for o in listed
    )
    assert [o["internal"] for o in listed if o["name"] in ("tanh", "tanh_backward")] == [False, True]
    conv = next(o for o in listed if o["name"] == "conv2d")
    assert conv["signature"].startswith("conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None")


def test_list_ops_tells_what_an_operator_is_tested_on():
    domains = {o["name"]: o["domain"] for o in tg.ops.list_ops(names=["ceil", "sigmoid_backward", "conv2d", "scatter_add"])}
    assert domains["ceil"] == "input: real in [-2.6, 2.6], avoiding -2, -1, 0, 1, 2"
    assert domains["sigmoid_backward"] == "grad_output: real in [-2, 2]; output: real in [0.1, 0.9]"
    assert "weight: 4 axes, real in [-" in domains["conv2d"] and "index: 1 to 3 axes, integer in [0, " in domains["scatter_add"]
    assert not any("<locals>" in o["domain"] or "lambda" in o["domain"] or "raises" in o["domain"] for o in tg.ops.list_ops())
    declare("options", options={"domain": elementwise(Integers(0, 3), mode=OneOf(("a", "b")), power=Real(1, 2), exact=True)},
            reference=lambda input, mode="a", power=1.0, exact=True: input, differentiable=False, grad_input=None)  # fmt: skip
    (row,) = tg.ops.list_ops(names=["options"])
    assert row["domain"] == "input: integer in [0, 2]; mode: one of 'a', 'b'; power: real in [1, 2]; exact: True"


def test_list_ops_remembers_what_was_checked():
    declare()
    assert tg.ops.list_ops(names=["triple"])[0]["test"] == "not run"
    result = check_op("triple", examples=4)
    assert tg.ops.list_ops(names=["triple"])[0]["test"] == f"ok: 4 examples, {sum(result.checks.values())} comparisons"
    assert tg.testing.last_result("triple") is result
    declare(grad_input=lambda upstream: upstream * 2, options={"override": True})
    assert tg.ops.list_ops(names=["triple"])[0]["test"] == "not run"
    with pytest.raises(OpCheckError):
        check_op("triple", examples=2)
    assert tg.ops.list_ops(names=["triple"])[0]["test"].startswith("failed: triple")
    assert tg.ops.list_ops(check=2, names=["neg"])[0]["test"].startswith("ok: 2 examples")
    with pytest.raises(KeyError, match="no operator is called 'nonsense'"):
        tg.ops.list_ops(names=["nonsense"])


def test_an_internal_operator_is_listed_as_such_and_works_like_any_other():
    operator = declare(options={"internal": True})
    assert operator.internal and tg.triple(tg.ones(1)).tolist() == [3.0] and check_op("triple").passed
    assert "triple" not in dir(tg) and next(o for o in tg.ops.list_ops() if o["name"] == "triple")["internal"] is True


def test_annotations_may_be_evaluated_or_text():
    def evaluated(*tensors: list[Array]) -> Any:
        return tensors[0].copy()

    evaluated.__annotations__ = {"tensors": list[Array]}
    operator = declare(base=Op, reference=evaluated, grad_input=None, differentiable=False, options={"override": True})
    assert operator.variadic == "tensors" and tg.triple(tg.ones(1)).tolist() == [1.0]

    def optional(input: Array, other: Array | None = None) -> Any:
        return input.copy()

    for annotation in (Array | None, "Array | None"):
        optional.__annotations__ = {"input": Array, "other": annotation}
        operator = declare(base=Op, reference=optional, nondiff=("other",), options={"override": True})
        assert operator.tensor_params == ("input", "other") and operator.optional_tensors == {"other"}


def test_aliases_have_owners_follow_an_override_and_go_with_the_operator():
    first = declare(options={"aliases": ("threefold",), "inplace": True, "keywords": {"value": "input"}})
    x = tg.ones(2)
    assert tg.threefold(x).tolist() == x.threefold().tolist() == x.clone().threefold_().tolist() == tg.triple(value=x).tolist()
    assert "threefold" in dir(tg) and "threefold_" in dir(tg) and registry.get("threefold") is first
    with pytest.raises(ValueError, match="'threefold' is registered by"):
        declare("threefold")
    second = declare(options={"override": True})
    assert registry.get("threefold") is second and second.aliases == ("threefold",)
    registry.unregister("triple")
    assert not hasattr(tg, "threefold") and not hasattr(x, "threefold") and not hasattr(x, "threefold_")
    with pytest.raises(TypeError, match="keywords must give parameters another name"):
        declare(options={"keywords": {"size": "shape"}})


def _times(factor: int) -> Callable[[Any], Any]:
    def reference(input: Array) -> Any:
        return input * np.asarray(factor, input.dtype)

    return reference


def test_the_packages_functions_change_with_their_operators():
    """Once looked up they are kept in the package; an override, a new owner of an alias and unregister must all be seen."""
    x = tg.tensor([2.0])
    declare(options={"aliases": ("threefold",), "inplace": True})
    assert [tg.triple(x).item(), tg.threefold(x).item(), tg.triple_(x.clone()).item()] == [6.0] * 3
    declare(options={"aliases": ("threefold",), "inplace": True, "override": True}, reference=_times(4))
    assert [tg.triple(x).item(), tg.threefold(x).item(), tg.triple_(x.clone()).item()] == [8.0] * 3
    declare("five", options={"aliases": ("threefold",), "override": True}, reference=_times(5))
    assert [tg.triple(x).item(), tg.threefold(x).item(), tg.five(x).item()] == [8.0, 10.0, 10.0]
    registry.unregister("five")
    assert tg.triple(x).item() == 8.0 and not hasattr(tg, "five") and not hasattr(tg, "threefold")
    registry.unregister("triple")
    assert not hasattr(tg, "triple") and not hasattr(tg, "triple_")
