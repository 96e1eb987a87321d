"""Arithmetic text: what it computes is what Python computes with the same Tensors, and what it refuses it points at."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_cv as tg
from tinygrad_cv import registry
from tinygrad_cv.domain import NumpyDraw
from tinygrad_cv.expressions import MAX_LENGTH, ExpressionError, functions, parse


def _value(text, **values):
    return parse(text).evaluate(values, tg.float64)[0].item()


# -- random trees, written by the rules of Python's precedence and computed beside it ------------------------------------------

_FUNCTIONS = {
    "sin": lambda a: tg.sin(a), "tanh": lambda a: tg.tanh(a), "sigmoid": lambda a: tg.sigmoid(a), "relu": lambda a: tg.relu(a),
    "exp": lambda a: tg.exp(a), "softsign": lambda a: tg.softsign(a), "square": lambda a: tg.square(a), "neg": lambda a: tg.neg(a),
}  # fmt: skip
_TWO = {"maximum": tg.maximum, "minimum": tg.minimum, "max": tg.maximum, "atan2": tg.atan2, "hypot": tg.hypot}
_BINARY = {"+": (tg.add, 1), "-": (tg.sub, 1), "*": (tg.mul, 2), "/": (tg.div, 2), "**": (tg.pow, 4)}


@st.composite
def _trees(draw, depth=4):
    """(text, binding strength of its outermost operator, function from a dict of Tensors to the Tensor it means)"""
    kind = draw(st.integers(0, 6 if depth else 1))
    if kind == 0:
        name = draw(st.sampled_from(["x", "y", "theta", "w_1"]))
        return name, 9, lambda v: v[name]
    if kind == 1:
        text = draw(st.sampled_from(["2", "0.5", "1.25", "3e-1", ".75", "1."]))
        return text, 9, lambda v: tg.tensor(float(text), dtype=tg.float64)
    if kind == 2:
        text, binds, made = draw(_trees(depth - 1))
        shown = text if binds >= 3 else f"({text})"
        return f"-{shown}", 3, lambda v: tg.neg(made(v))
    if kind == 3:
        name = draw(st.sampled_from(sorted(_FUNCTIONS)))
        text, _, made = draw(_trees(depth - 1))
        return f"{name}({text})", 9, lambda v: _FUNCTIONS[name](made(v))
    left, left_binds, left_made = draw(_trees(depth - 1))
    right, right_binds, right_made = draw(_trees(depth - 1))
    if kind == 4:
        name = draw(st.sampled_from(sorted(_TWO)))
        return f"{name}({left}, {right})", 9, lambda v: _TWO[name](left_made(v), right_made(v))
    symbol = draw(st.sampled_from(sorted(_BINARY)))
    function, binds = _BINARY[symbol]
    if symbol == "**":  # groups to the right; a sign may stand after it but binds less tightly before it
        left = left if left_binds > binds else f"({left})"
        right = right if right_binds >= 3 else f"({right})"
    else:
        left = left if left_binds >= binds else f"({left})"
        right = right if right_binds > binds else f"({right})"
    space = draw(st.sampled_from(["", " ", "  "]))
    return f"{left}{space}{symbol}{space}{right}", binds, lambda v: function(left_made(v), right_made(v))


@given(_trees(), st.lists(st.floats(0.25, 1.75), min_size=4, max_size=4))
def test_random_expressions_give_the_values_and_gradients_of_the_same_calls(tree, numbers):
    text, _, made = tree
    expression = parse(text)
    values = dict(zip(["x", "y", "theta", "w_1"], numbers, strict=True))

    def leaves():
        return {name: tg.tensor(values[name], dtype=tg.float64, requires_grad=True) for name in expression.variables}

    ours, theirs = leaves(), leaves()
    out, expected = expression.evaluate(ours, tg.float64)[0], made(theirs)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-14)
    if expected.requires_grad:
        out.backward()
        expected.backward()
        for name in expression.variables:
            given_, wanted = ours[name].grad, theirs[name].grad
            assert (given_ is None) == (wanted is None)
            if wanted is not None:
                np.testing.assert_allclose(given_.numpy(), wanted.numpy(), rtol=1e-12)


@given(st.one_of(st.text(max_size=40), st.text(alphabet="xyz.()+-*/=;,'\"0123456789e \n\tsinmaxpow[]^<>", max_size=60)))
def test_any_text_is_an_expression_or_one_named_error(text):
    try:
        expression = parse(text)
        expression.evaluate(dict.fromkeys(expression.variables, 0.5))
    except ExpressionError as error:
        assert 0 <= error.column <= len(text)
        assert error.reason in str(error) and str(error).splitlines()[-1].strip() == "^"


@given(st.data())
def test_every_elementwise_operator_can_be_called(data):
    names = [o.name for o in registry.operators() if o.elementwise and not o.internal]
    assert set(names) <= set(functions())
    name = data.draw(st.sampled_from(names))
    operator = registry.get(name)
    call = operator.domain(NumpyDraw(data.draw(st.integers(0, 1000))))
    bound = operator.own_signature.bind(*call.args, **call.kwargs).arguments
    values, written = {}, []
    for parameter, value in bound.items():
        keyword = operator.own_signature.parameters[parameter].kind.name == "KEYWORD_ONLY"
        if isinstance(value, np.ndarray):
            values[f"v{len(values)}"] = tg.tensor(value)
            written.append(f"v{len(values) - 1}")
        elif parameter != "inplace":
            keyword = keyword or parameter in operator.attr_params
            written.append(f"{parameter}={value!r}" if keyword else repr(value))
    if name == "where" and len(values) == 1:
        return  # where(condition) is nonzero(condition), and gives several tensors
    out = parse(f"{name}({', '.join(written)})").evaluate(values)[0]
    kept = {k: v for k, v in bound.items() if k != "inplace"}
    arrays = {k: tg.tensor(v) if isinstance(v, np.ndarray) else v for k, v in kept.items()}
    expected = operator.function(**arrays)
    np.testing.assert_array_equal(out.numpy(), expected.numpy())


# -- the rules one by one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-2 ** 2", -4), ("(-2) ** 2", 4), ("2 ** 3 ** 2", 512), ("2 ** -1", 0.5), ("2 - 3 - 4", -5), ("8 / 4 / 2", 1), ("--2", 2),
        ("+2", 2), ("- + - 2", 2), ("2 * -3", -6), ("2 ** -1 * 4", 2), ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("2*pi", 2 * math.pi),
        ("max(1, min(5, 3))", 3), ("ln(1)", 0), ("1e3", 1000), (".5", 0.5), ("5.", 5), ("leaky_relu(-1, negative_slope=0.2)", -0.2),
        ("leaky_relu(-1, 0.2)", -0.2), ("clamp(7, max=3)", 3), ("clamp(7, None, 3)", 3), ("gelu(0, approximate='tanh')", 0),
        ("where(gt(3, 2), 10, 20)", 10), ("add(1, 2, alpha=3)", 7), ("a = 2; b = a * a; a + b", 6), ("a = 3\nb = (a\n + 1)\n\n", 4),
        ("1;", 1), ("9007199254740993", 9007199254740992),
    ],
)  # fmt: skip
def test_rules_of_the_grammar(text, expected):
    assert _value(text) == pytest.approx(expected, rel=1e-15)


def test_the_first_example_of_the_lectures():
    """q = x + y = 3, f = q z = -12; df/dx = df/dy = z = -4, df/dz = q = 3 (CS231n, backpropagation)."""
    expression = parse("q = x + y; f = q * z")
    assert expression.variables == ("x", "y", "z") and expression.steps == ("q", "f")
    f, names = expression.evaluate({"x": -2, "y": 5, "z": -4})
    f.backward()
    assert f.item() == -12 and names["q"].item() == 3 and list(names) == ["x", "y", "z", "q", "f"]
    assert [names[n].grad.item() for n in "xyz"] == [-4, -4, 3] and f.dtype == tg.get_default_dtype()


def test_tensors_are_taken_as_they_are_and_shared_steps_are_computed_once():
    x = tg.tensor([1.0, -2.0], dtype=tg.float64, requires_grad=True)
    out = parse("s = relu(x); s * s + s")(x=x)
    assert len(tg.graph.trace(out).find(op="relu")) == 1
    out.sum().backward()
    assert x.grad.tolist() == [3.0, 0.0]


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 0, "nothing to compute"), ("x +", 3, "expression ends"), ("(x", 0, "never closed"), ("exp(x", 3, "never closed"),
        ("x)", 1, "closes nothing"), ("2x", 1, "for a product write *"), ("sigmoid x", 8, "write sigmoid(x)"),
        ("sigmod(x)", 0, "did you mean sigmoid"), ("x + foo_bar(x)", 4, "no elementwise operator is called 'foo_bar'"),
        ("x^2", 1, "write **"),
        ("x < 2", 2, "lt(a, b)"), ("x == 2", 2, "eq(a, b)"), ("max(x)", 0, "max takes (input, other)"),
        ("exp()", 4, "exp takes (input), got nothing"),
        ("exp(x, y)", 0, "exp takes (input)"), ("elu(x, alpha=y)", 13, "must be a constant"), ("exp(foo=x)", 0, "'foo'"),
        ("relu(x, inplace=True)", 16, "leave inplace out"), ("x, y", 1, "comma"), ("x; y", 0, "name this one"),
        ("x = x", 4, "name of this step"), ("a = 1; a = 2", 7, "already"), ("pi = 3", 0, "already"), ("1e999", 0, "too large"),
        ("gelu(x, approximate='tanh", 20, "never closed"), ("x[0]", 1, "( )"), ("x.y", 1, "0.5"), ("'a' + 1", 0, "no number"),
        ("exp('a')", 4, "not 'a'"), ("add(alpha=2, x, y)", 0, "come last"), ("where(x)", 0, "several tensors"),
        ("bitwise_and(x, 3)", 0, "integer or bool"), ("x $ y", 2, "'$'"), ("__import__('os')", 0, "__import__"), ("sum(x)", 0, "'sum'"),
    ],
)  # fmt: skip
def test_errors_point_at_the_place_and_say_what_would_be_right(text, column, says):
    with pytest.raises(ExpressionError) as caught:
        expression = parse(text)
        expression.evaluate(dict.fromkeys(expression.variables, 0.5))
    assert says in caught.value.reason
    assert caught.value.column == column
    shown, caret = str(caught.value).splitlines()[-2:]
    assert shown.strip() == text and caret.index("^") == column + 2


def test_values_that_are_missing_unknown_or_no_numbers():
    expression = parse("x * why")
    with pytest.raises(ExpressionError, match=r"no value was given for 'why'; give one, as in why=1.5"):
        expression(x=1)
    with pytest.raises(ExpressionError, match=r"'z', but the variables here are: x, why"):
        expression(x=1, why=2, z=3)
    for wrong in ("1", None, [1, [2]], 1j, object()):
        with pytest.raises(ExpressionError, match="must be a number"):
            expression(x=1, why=wrong)
    with pytest.raises(ExpressionError, match=r"broadcast"):
        expression(x=tg.ones(2), why=tg.ones(3))
    with pytest.raises(TypeError, match="parse: expected the expression as text, got int"):
        parse(3)


def test_the_excerpt_of_a_long_text_stays_short():
    with pytest.raises(ExpressionError) as caught:
        parse("x" + " + x" * 5000 + " $ x" + " + x" * 5000)
    shown, caret = str(caught.value).splitlines()[-2:]
    assert len(shown) < 90 and shown[caret.index("^")] == "$"


def test_wide_letters_move_the_caret():
    with pytest.raises(ExpressionError) as caught:
        parse("数 + $")
    assert str(caught.value).splitlines()[-1] == "  " + " " * 5 + "^"


@pytest.mark.parametrize(
    "text",
    [
        "(" * 49_999 + "x" + ")" * 49_999, "-" * 99_999 + "x", "sin(" * 19_999 + "x" + ")" * 19_999, "x" + "+x" * 49_999,
        "x" + "**x" * 30_000, "(" * MAX_LENGTH, ")" * MAX_LENGTH, "max(" * 25_000, "9" * MAX_LENGTH, "x" * MAX_LENGTH, "a=1;" * 25_000,
    ],
)  # fmt: skip
def test_the_deepest_and_longest_texts_need_neither_recursion_nor_much_time(text):
    try:
        parse(text)
    except ExpressionError as error:
        assert len(str(error)) < 1000
    with pytest.raises(ExpressionError, match="more than the 100000 that are read"):
        parse(text + "x" * (MAX_LENGTH + 1 - len(text)))


def test_deep_nesting_is_also_computed_and_differentiated():
    x = tg.tensor(1.0, dtype=tg.float64, requires_grad=True)
    parse("(" * 5000 + "x" + " + x)" * 5000)(x=x).backward()
    assert x.grad.item() == 5001
