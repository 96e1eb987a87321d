"""What a page says about operators: formulas to compute with, derivatives to show, families, and the patterns of backward.

The numbers of a page never come from here: they are the engine's own. A test evaluates every derivative below and compares.
"""

from __future__ import annotations

# Formulas of operators whose declared line is prose, or holds more than the usual case.
FORMULAS = {
    "acos": "arccos(input)", "acosh": "arcosh(input)", "asin": "arcsin(input)", "asinh": "arsinh(input)", "atan": "arctan(input)",
    "atan2": "atan2(input, other)", "atanh": "artanh(input)", "ceil": "-floor(-input)", "cos": "cos(input)", "div": "input / other",
    "erf": "erf(input)", "floor": "floor(input)", "gelu": "input * Phi(input)", "maximum": "max(input, other)",
    "minimum": "min(input, other)", "sigmoid": "1 / (1 + e^(-input))", "sign": "sign(input)", "sqrt": "sqrt(input)",
    "tan": "tan(input)", "tanh": "tanh(input)", "trunc": "trunc(input)", "silu": "input * sigmoid(input)",
    "matmul": "input @ other", "mm": "input @ mat2", "bmm": "input @ mat2", "linear": "input @ weight^T + bias",
    "mv": "input @ vec", "dot": "sum_i input[i] * tensor[i]", "log10": "ln(input) / ln(10)",
    "addmm": "beta * input + alpha * (mat1 @ mat2)",
}  # fmt: skip

# d out / d argument, element by element; `out` is the operator's result.
DERIVATIVES = {
    "abs": {"input": "sign(input)"},
    "acos": {"input": "-1 / sqrt(1 - input^2)"},
    "acosh": {"input": "1 / sqrt(input^2 - 1)"},
    "add": {"input": "1", "other": "alpha"},
    "addcdiv": {"input": "1", "tensor1": "value / tensor2", "tensor2": "-value * tensor1 / tensor2^2"},
    "addcmul": {"input": "1", "tensor1": "value * tensor2", "tensor2": "value * tensor1"},
    "asin": {"input": "1 / sqrt(1 - input^2)"},
    "asinh": {"input": "1 / sqrt(input^2 + 1)"},
    "atan": {"input": "1 / (1 + input^2)"},
    "atan2": {"input": "other / (input^2 + other^2)", "other": "-input / (input^2 + other^2)"},
    "atanh": {"input": "1 / (1 - input^2)"},
    "clamp": {"input": "1 where out == input, else 0"},
    "clone": {"input": "1"},
    "cos": {"input": "-sin(input)"},
    "cosh": {"input": "sinh(input)"},
    "div": {"input": "1 / other", "other": "-input / other^2"},
    "elu": {"input": "1 where input > 0, else out + alpha"},
    "erf": {"input": "2 / sqrt(pi) * e^(-input^2)"},
    "erfc": {"input": "-2 / sqrt(pi) * e^(-input^2)"},
    "exp": {"input": "out"},
    "exp2": {"input": "ln(2) * out"},
    "expm1": {"input": "e^input"},
    "gelu": {"input": "Phi(input) + input * phi(input)"},
    "hypot": {"input": "input / out", "other": "other / out"},
    "leaky_relu": {"input": "1 where input > 0, else negative_slope"},
    "lerp": {"input": "1 - weight", "end": "weight", "weight": "end - input"},
    "log": {"input": "1 / input"},
    "log10": {"input": "1 / (input * ln(10))"},
    "log1p": {"input": "1 / (1 + input)"},
    "log2": {"input": "1 / (input * ln(2))"},
    "logaddexp": {"input": "e^(input - out)", "other": "e^(other - out)"},
    "logit": {"input": "1 / (input * (1 - input))"},
    "logsigmoid": {"input": "1 - sigmoid(input)"},
    "maximum": {"input": "1 where input > other, else 0", "other": "1 where other > input, else 0"},
    "minimum": {"input": "1 where input < other, else 0", "other": "1 where other < input, else 0"},
    "mul": {"input": "other", "other": "input"},
    "neg": {"input": "-1"},
    "positive": {"input": "1"},
    "pow": {"input": "exponent * input^(exponent - 1)", "exponent": "out * ln(input)"},
    "reciprocal": {"input": "-1 / input^2"},
    "relu": {"input": "1 where input > 0, else 0"},
    "relu6": {"input": "1 where out == input, else 0"},
    "rsqrt": {"input": "-out / (2 * input)"},
    "sigmoid": {"input": "out * (1 - out)"},
    "silu": {"input": "sigmoid(input) + out * (1 - sigmoid(input))"},
    "sin": {"input": "cos(input)"},
    "sinh": {"input": "cosh(input)"},
    "softplus": {"input": "sigmoid(beta * input)"},
    "softsign": {"input": "1 / (1 + |input|)^2"},
    "sqrt": {"input": "1 / (2 * out)"},
    "square": {"input": "2 * input"},
    "sub": {"input": "1", "other": "-alpha"},
    "tan": {"input": "1 + out^2"},
    "tanh": {"input": "1 - out^2"},
    "tanhshrink": {"input": "tanh(input)^2"},
}

# dL/d argument as matrices; G is the gradient of the result.
MATRIX_RULES = {
    "addmm": {"input": "beta * G", "mat1": "alpha * (G @ mat2^T)", "mat2": "alpha * (mat1^T @ G)"},
    "bmm": {"input": "G @ mat2^T", "mat2": "input^T @ G"},
    "conv2d": {
        "input": "sum_{f, o, k} G[n, f, o] * weight[f, c, k]",
        "weight": "sum_{n, o} G[n, f, o] * input[n, c, o * stride + k - padding]",
        "bias": "sum_{n, o} G[n, f, o]",
    },
    "dot": {"input": "G * tensor", "tensor": "G * input"},
    "linear": {"input": "G @ weight", "weight": "G^T @ input", "bias": "sum of G over rows"},
    "log_softmax": {"input": "G - e^out * sum_dim G"},
    "matmul": {"input": "G @ other^T", "other": "input^T @ G"},
    "mean": {"input": "G / N"},
    "mm": {"input": "G @ mat2^T", "mat2": "input^T @ G"},
    "mse_loss": {"input": "2 * (input - target) / N * G"},
    "mv": {"input": "G @ vec^T", "vec": "input^T @ G"},
    "softmax": {"input": "out * (G - sum_dim G * out)"},
    "softmax_cross_entropy": {"input": "(softmax(input) - onehot(target)) / N * G"},
    "sum": {"input": "G"},
}

_FAMILIES = {
    "add": "add sub sum mean cumsum sum_to_size trace addcmul addcdiv",
    "multiply": "mul div matmul mm bmm mv dot linear conv1d conv2d conv3d addmm lerp prod",
    "route": "relu relu6 leaky_relu maximum minimum clamp hardtanh amax amin max min topk sort where "
    "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices threshold",
    "rearrange": "view reshape flatten ravel transpose permute t unsqueeze squeeze expand broadcast_to select narrow getitem index "
    "stack cat split chunk unbind pad roll flip movedim clone positive unflatten",
}
_FAMILY_OF = {name: kind for kind, names in _FAMILIES.items() for name in names.split()}
_ROUTES_BY_VALUE = {"relu", "relu6", "leaky_relu", "clamp", "hardtanh", "threshold"}

# (name, sentence) of what backward does at an operator.
_PATTERNS = {
    "add": ("add distributes", "An addition passes the gradient that arrives on to every input, whatever their values."),
    "sub": (
        "add distributes",
        "A subtraction passes the gradient that arrives on to both inputs, with the sign turned for the second.",
    ),
    "sum": ("add distributes", "A sum passes the gradient that arrives on to every element it added."),
    "mean": ("add distributes", "A mean gives every element an equal share of the gradient that arrives."),
    "multiply": (
        "multiply switches",
        "A multiplication gives each input the gradient that arrives times the value of the other input: they switch.",
    ),
    "matrix": (
        "multiply switches",
        "A product of matrices is many multiplications and additions: each input gets the gradient times the other one, transposed to fit.",
    ),
    "bias": (
        "add distributes",
        "The bias is added to every position, so it gets the gradient of each of them; they add up.",
    ),
    "gate": ("max routes", "The gradient passes where the input was let through, and stops (0) where it was not."),
    "route": ("max routes", "Only the input that won gets the gradient; the others get 0."),
    "rearrange": ("", "Nothing is computed here, so the gradient goes back to where each element came from."),
}
_MATRIX = {"matmul", "mm", "bmm", "mv", "linear", "conv1d", "conv2d", "conv3d", "addmm", "dot"}

GRADIENTS_ADD = (
    "gradients add",
    "This value was used more than once, so it moves the result in more than one way: the gradients of its uses add up.",
)


def family(op: str) -> str:
    """ "add", "multiply", "route", "rearrange" or ""."""
    return _FAMILY_OF.get(op, "")


def pattern(op: str, argument: str = "") -> tuple[str, str]:
    """The name of what backward does at this operator for this argument, and a sentence about it; empty where it has no name."""
    if argument == "bias" and op in _MATRIX:
        return _PATTERNS["bias"]
    if op in _PATTERNS and op in ("add", "sub", "sum", "mean"):
        return _PATTERNS[op]
    if op == "mul":
        return _PATTERNS["multiply"]
    if op in _MATRIX:
        return _PATTERNS["matrix"]
    if op in _ROUTES_BY_VALUE:
        return _PATTERNS["gate"]
    return _PATTERNS[family(op)] if family(op) in ("route", "rearrange") else ("", "")
