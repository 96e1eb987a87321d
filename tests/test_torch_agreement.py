"""PyTorch as a second opinion: the same calls through both libraries give the same values, dtypes, gradients and signatures."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import registry
from tinygrad_cv.domain import Call, NumpyDraw
from tinygrad_cv.testing import Sample, agree

torch = pytest.importorskip("torch")
import torch_tools as tools  # noqa: E402

torch.set_num_threads(1)

# Operators without a PyTorch function of the same name and meaning, and why.
INTERNAL = "part of another operator's forward or backward, which is compared as a whole"
WITHOUT = {
    "adaptive_avg_pool_input_grad": INTERNAL,
    "avg_pool_input_grad": INTERNAL,
    "batch_norm_backward": INTERNAL,
    "batch_norm_with_statistics": INTERNAL,
    "binary_cross_entropy_value": INTERNAL,
    "cast": "Tensor.to in PyTorch",
    "conv2d_matrix": "a teaching form of conv2d",
    "conv_input_grad": INTERNAL,
    "conv_weight_grad": INTERNAL,
    "dropout_with_mask": INTERNAL,
    "embedding_backward": INTERNAL,
    "embedding_lookup": INTERNAL,
    "gelu_backward": INTERNAL,
    "getitem": "indexing syntax in PyTorch",
    "getitem_backward": INTERNAL,
    "group_norm_backward": INTERNAL,
    "group_norm_with_statistics": INTERNAL,
    "huber_value": INTERNAL,
    "index": "indexing syntax in PyTorch, where Tensor.index means something else",
    "interpolate_axis": INTERNAL,
    "interpolate_axis_backward": INTERNAL,
    "sample_taps": INTERNAL,
    "scatter_taps": INTERNAL,
    "tap_products": INTERNAL,
    "layer_norm_backward": INTERNAL,
    "layer_norm_with_statistics": INTERNAL,
    "linalg.cofactor": INTERNAL,
    "linear_recurrence": INTERNAL,
    "linear_weight_grad": INTERNAL,
    "log_softmax_backward": INTERNAL,
    "masked_affine": INTERNAL,
    "masked_scale": INTERNAL,
    "max_dim": INTERNAL,
    "max_pool_gather": INTERNAL,
    "max_pool_input_grad": INTERNAL,
    "maxout": "not in PyTorch (Goodfellow et al., arXiv:1302.4389)",
    "median_all": INTERNAL,
    "median_dim": INTERNAL,
    "min_dim": INTERNAL,
    "nll_loss_backward": INTERNAL,
    "pad_backward": INTERNAL,
    "scatter_extremum": INTERNAL,
    "scatter_src": INTERNAL,
    "setitem": "assignment syntax in PyTorch",
    "sigmoid_backward": INTERNAL,
    "sliding_windows": INTERNAL,
    "sliding_windows_backward": INTERNAL,
    "softmax_backward": INTERNAL,
    "softmax_cross_entropy": INTERNAL,
    "softmax_cross_entropy_backward": INTERNAL,
    "tanh_backward": INTERNAL,
    "threshold_backward": INTERNAL,
    "unique_all": INTERNAL,
    "view_scatter": INTERNAL,
    **{f"{kind}max_pool{n}d_with_indices": "max pooling with return_indices=True in PyTorch"
       for kind in ("", "adaptive_", "fractional_") for n in (1, 2, 3) if (kind, n) != ("fractional_", 1)},
}  # fmt: skip

# Outputs that PyTorch itself determines only up to a sign, column by column.
SIGN_FREE = {"linalg.eigh", "linalg.svd", "svd"}
# An index may occur twice here: one of the values wins and the others get no gradient, where PyTorch's backward gives them one.
OVERWRITTEN = {"index_copy": "source", "scatter": "src", "index_put": "values"}

# Parameters that differ from PyTorch's documented signature, and why.
SIGNATURES = {
    "amax": "the documentation leaves out that dim defaults to (): all axes",
    "amin": "the documentation leaves out that dim defaults to (): all axes",
    "atleast_1d": "one tensor, or several through atleast_1d(*tensors) in PyTorch",
    "atleast_2d": "as atleast_1d",
    "atleast_3d": "as atleast_1d",
    "linalg.svd": "driver chooses between CUDA libraries",
    "linalg.svdvals": "driver chooses between CUDA libraries",
    "expand": "documented as a method, with *sizes",
    "expand_as": "documented as a method",
    "meshgrid": "indexing defaults to 'ij', PyTorch's None means that with a warning",
    "std": "correction=None stands for 1, so that the older `unbiased` can be told apart",
    "std_mean": "as std",
    "topk": "PyTorch's dim=None means the last axis, -1",
    "var": "as std",
    "var_mean": "as std",
}

NAMES = [operator.name for operator in registry.operators() if operator.provider == "tinygrad_cv"]
COMPARED = [name for name in NAMES if name not in WITHOUT]
RANDOM = [name for name in COMPARED if registry.get(name).random]


def test_every_operator_is_compared_or_says_why_not() -> None:
    """An operator is compared, draws random numbers, or is listed with its reason; nothing listed has a counterpart after all."""
    missing = [name for name in COMPARED if tools.counterpart(name) is None]
    assert not missing, f"no PyTorch function is called {missing}: add them to WITHOUT with a reason"
    assert all(WITHOUT.values()) and all(SIGNATURES.values())
    gone = [name for name in (*WITHOUT, *SIGNATURES, *SIGN_FREE) if name not in NAMES]
    assert not gone, f"listed, but no longer operators: {gone}"


@pytest.mark.parametrize("name", [n for n in COMPARED if n not in RANDOM])
def test_values_and_gradients(name: str) -> None:
    """Same values, dtypes and first derivatives as PyTorch, in float64 and float32, on calls drawn from the operator's domain."""
    operator, function = registry.get(name), tools.counterpart(name)
    assert function is not None
    compared, refused = 0, ""
    for i in range(12):
        for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 2e-5)):
            rng = np.random.default_rng([i, 1])
            sample = Sample(operator, operator.domain(NumpyDraw(rng)), i)
            try:
                pair = tools.Pair(sample, function, dtype, rng)
            except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
                refused = (
                    f"{type(error).__name__}: {error}"  # PyTorch takes fewer forms of the call; one at least must be compared
                )
                continue
            compared += 1
            label = f"{name}, {np.dtype(dtype)}, {sample.call}"
            assert len(pair.ours) == len(pair.theirs), label
            for ours, theirs in zip(pair.ours, pair.theirs, strict=True):
                mine = ours.numpy(force=True) if isinstance(ours, tg.Tensor) else np.asarray(ours)
                expected = theirs.detach().numpy() if torch.is_tensor(theirs) else np.asarray(theirs)
                assert mine.dtype == expected.dtype, f"{label}: {mine.dtype}, PyTorch {expected.dtype}"
                if name in SIGN_FREE:
                    mine, expected = np.abs(mine), np.abs(expected)
                agree(label, mine, expected, tolerance)
            for owner, ours_gradient, expected in pair.gradients:
                if name not in SIGN_FREE and OVERWRITTEN.get(name) != owner:
                    agree(f"{label}, gradient of {owner}", ours_gradient, expected, 10 * tolerance)
    assert compared, f"PyTorch refused every call: {refused}"


@pytest.mark.parametrize("name", COMPARED)
def test_signature(name: str) -> None:
    """Parameter names, their order and their defaults are those PyTorch documents."""
    operator = registry.get(name)
    documented = tools.documented(tools.counterpart(name), name)  # type: ignore[arg-type]
    differences = [tools.difference(operator, s) for s in documented]
    if documented and all(differences) and name not in SIGNATURES:
        raise AssertionError(f"{name} {differences[0]}")


DTYPES = [tg.bool_, tg.uint8, tg.int32, tg.int64, tg.float16, tg.float32, tg.float64]
ELEMENTWISE = [n for n in COMPARED if registry.get(n).elementwise and n not in RANDOM]


# Optional tensors without which there is nothing to promote with.
_TENSORS_BESIDE = {"clamp": ["min"], "where": ["input", "other"]}


def _operands(operator: registry.Operator, first: np.dtype, second: object, zero_dim: bool = False) -> list[object]:
    """Ones for the tensor parameters: the first of one dtype, the others of another (or a Python number), masks of booleans."""
    parameters = operator.signature.parameters
    required = [p for p in operator.tensor_params if parameters[p].default is inspect.Parameter.empty]
    found: list[object] = [np.ones(2, first)]
    for p in required[1:] + _TENSORS_BESIDE.get(operator.name, []):
        shape = () if zero_dim and len(found) == 1 else (2,)
        found.append(np.ones(2, bool) if p == "mask" else np.ones(shape, second) if isinstance(second, np.dtype) else second)
    return found


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_promotion(name: str) -> None:
    """The dtype of the result of every pair of operand dtypes, 0-d operands and Python numbers is PyTorch's, wherever both take it."""
    operator, function = registry.get(name), tools.counterpart(name)
    assert function is not None
    required = [p.name for p in operator.signature.parameters.values() if p.default is inspect.Parameter.empty]
    drawn = Sample(operator, operator.domain(NumpyDraw(0))).bound.arguments
    attributes = {p: drawn[p] for p in required if p in operator.attr_params}
    agreed = 0
    cases = [_operands(operator, a, b, zero) for a in DTYPES for b in [*DTYPES, True, 2, 1.5] for zero in (False, True)]
    for arguments in cases:
        try:
            theirs = tools.call(function, tuple(map(tools.to_torch, arguments)), attributes)
        except (TypeError, RuntimeError, NotImplementedError):
            continue  # PyTorch has no such combination
        try:
            ours = operator(*[tg.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments], **attributes)
        except TypeError:
            continue  # an explicit refusal; a silent other dtype is what must not happen
        expected = str(theirs.dtype).replace("torch.", "")
        assert str(ours.dtype) == expected, f"{name}{tuple(arguments)}: {ours.dtype}, PyTorch {expected}"
        agreed += 1
    assert agreed


def test_the_comparison_sees_a_difference() -> None:
    """The tools compare something: a changed attribute, another dtype and another default are all noticed."""
    rng = np.random.default_rng(0)
    sample = Sample(registry.get("leaky_relu"), Call((np.array([-1.0, 2.0]),), {"negative_slope": 0.3}))
    pair = tools.Pair(sample, lambda x, negative_slope: torch.nn.functional.leaky_relu(x, 0.31), np.float64, rng)
    with pytest.raises(AssertionError):
        agree("value", pair.ours[0], pair.theirs[0].detach().numpy(), 1e-9)
    with pytest.raises(AssertionError):
        agree("gradient", pair.gradients[0][1], pair.gradients[0][2], 1e-9)
    assert tools.difference(
        registry.get("leaky_relu"), [("input", "positional", inspect.Parameter.empty), ("slope", "positional", 0.01)]
    )
