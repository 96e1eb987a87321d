"""What operators cost, where their declarations do not say: floating-point operations from the shapes of their tensors.

An FMA counts as two operations, a comparison, an exponential or a division as one, as in published figures for networks (which often
count an FMA once: halve ours). Views and copies count none. `flops` knows every built-in operator; one operation for each
element of the largest array is what is assumed of any other.

Source of the linear algebra: G. H. Golub, C. F. Van Loan, "Matrix Computations", 4th edition, 2013, chapters 3 to 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Shape = tuple[int, ...]

# Files of this folder whose operators move values and compute none.
MOVING = frozenset(
    "arrange axes diagonals embedding gathering indexing padding patches pieces shape tiling unpooling vision".split()
)
_ADDING = frozenset(  # those of them that add up what meets
    "embedding_backward fold getitem_backward index_add pad_backward sliding_windows_backward trace".split()
)

# Operations for each element of the largest array.
PER_ELEMENT = {
    "softmax": 5,  # maximum, subtract, exp, sum, divide
    "log_softmax": 5,
    "logsumexp": 4,
    "softmax_backward": 4,  # multiply, sum, subtract, multiply
    "log_softmax_backward": 4,
    "softmax_cross_entropy": 5,
    "softmax_cross_entropy_backward": 3,
    "batch_norm_with_statistics": 8,  # mean 1, variance 3, normalise 2, scale and shift 2
    "group_norm_with_statistics": 8,
    "layer_norm_with_statistics": 8,
    "batch_norm_backward": 9,  # normalised input 2, its product with the upstream, summed 2, sum 1, gradient 4
    "group_norm_backward": 9,
    "layer_norm_backward": 9,
    "var": 4,
    "std": 4,
    "var_mean": 4,
    "std_mean": 4,
    "linalg.vector_norm": 2,
    "linear_recurrence": 2,
    "addcmul": 3,
    "addcdiv": 3,
    "lerp": 3,
    "masked_affine": 2,
}


def _largest(inputs: Sequence[Shape | None], outputs: Sequence[Shape]) -> float:
    return float(max((math.prod(s) for s in (*inputs, *outputs) if s is not None), default=0))


def _window(inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]) -> float:
    """One operation for each element of each window."""
    kernel = attributes["kernel_size"]
    rank = _rank(attributes, outputs)
    elements = math.prod(kernel) if isinstance(kernel, (tuple, list)) else kernel**rank
    return float(math.prod(outputs[0]) * elements)


def _rank(attributes: dict[str, Any], outputs: Sequence[Shape]) -> int:
    return max(len(outputs[0]) - 2, 1)


def _window_grad(inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]) -> float:
    return _window(inputs, [inputs[0] or ()], attributes)


def _product(inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]) -> float:
    """beta * input + alpha * (a product summed over the last axis of its first factor, and over the batch of addbmm)."""
    first = inputs[1] or ()
    batch = first[0] if len(first) == 3 and len(outputs[0]) == 2 else 1
    return 2.0 * math.prod(outputs[0]) * first[-1] * batch + 2.0 * math.prod(outputs[0])


def _inner(inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]) -> float:
    return 2.0 * math.prod(inputs[0] or ())


def _distances(inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]) -> float:
    return 3.0 * math.prod(outputs[0]) * (inputs[0] or (1,))[-1]


def _sorting(inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]) -> float:
    count = math.prod(inputs[0] or ())
    return float(count * math.ceil(math.log2(max(count, 2))))


def _taps(position: int) -> Callable[..., float]:
    """A multiplication and an addition for every value read or written through the index, which is tensor `position`."""

    def cost(inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]) -> float:
        return 2.0 * math.prod(inputs[position] or ()) * (inputs[0] or (1, 1))[1]

    return cost


def _square(factor: float) -> Callable[..., float]:
    """factor * m * n^2 of every matrix, with n the smaller side."""

    def cost(inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]) -> float:
        *batch, rows, columns = inputs[0] or (0, 0)
        return factor * math.prod(batch) * max(rows, columns) * min(rows, columns) ** 2

    return cost


def _solve(inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]) -> float:
    size = (inputs[0] or (0,))[-1]
    return _square(2 / 3)(inputs, outputs, attributes) + 2.0 * size * math.prod(outputs[0])


BY_NAME: dict[str, Callable[..., float]] = {
    **dict.fromkeys((f"{kind}_pool{rank}d" for kind in ("avg", "max") for rank in (1, 2, 3)), _window),
    **dict.fromkeys((f"max_pool{rank}d_with_indices" for rank in (1, 2, 3)), _window),
    "avg_pool_input_grad": _window_grad,
    **dict.fromkeys(("addmm", "addbmm", "baddbmm", "addmv"), _product),
    **dict.fromkeys(("mv", "dot"), _inner),
    "cdist": _distances,
    **dict.fromkeys(("sort", "argsort", "median_all", "median_dim", "mode", "unique_all", "topk"), _sorting),
    **dict.fromkeys(("sample_taps", "scatter_taps"), _taps(1)),
    "tap_products": _taps(2),
    "linalg.cholesky": _square(1 / 3),
    **dict.fromkeys(("linalg.det", "linalg.slogdet"), _square(2 / 3)),
    "linalg.solve": _solve,
    **dict.fromkeys(("linalg.inv", "linalg.cofactor"), _square(2)),
    "linalg.qr": _square(4 / 3),
    "linalg.eigh": _square(9),
    **dict.fromkeys(("linalg.svd", "linalg.pinv", "linalg.matrix_rank"), _square(21)),
}  # fmt: skip


def flops(
    name: str, family: str, inputs: Sequence[Shape | None], outputs: Sequence[Shape], attributes: dict[str, Any]
) -> float:
    """Operations of operator `name`, declared in file `family`, on inputs of these shapes (None: absent)."""
    if name in BY_NAME:
        return BY_NAME[name](inputs, outputs, attributes)
    if family in MOVING and name not in _ADDING:
        return 0.0
    return PER_ELEMENT.get(name, 1) * _largest(inputs, outputs)


__all__ = ["BY_NAME", "MOVING", "PER_ELEMENT", "flops"]
