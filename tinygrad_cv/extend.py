"""All that an operator package may import. The names here are kept stable; `API_VERSION` says which set this is."""

from ._tensor import Tensor
from .autograd import no_grad
from .domain import Booleans, Call, Domain, Draw, Integers, OneOf, Real, call, elementwise
from .registry import API_VERSION, Array, Composite, Elementwise, Op, Operator, get, op, unregister

__all__ = [
    "API_VERSION", "Array", "Booleans", "Call", "Composite", "Domain", "Draw", "Elementwise", "Integers", "OneOf", "Op",
    "Operator", "Real", "Tensor", "call", "elementwise", "get", "no_grad", "op", "unregister",
]  # fmt: skip
