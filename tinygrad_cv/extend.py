"""All that an operator package may import, besides `import tinygrad_cv as tg` for Tensor operators in its rules.

    from tinygrad_cv.extend import require_api
    require_api(1)

    declaring      op, Op, Elementwise, Composite, Array; unregister, get
    domains        Real, Integers, Booleans, OneOf, elementwise, call, and the types Call, Domain, Draw
    rules          Tensor, no_grad
    laws           Linear, Homogeneous, Idempotent, Involution, Inverse, Adjoint, Symmetric, PermutationEquivariant,
                   TranslationEquivariant, Batched; for one of your own Law, Equivariant, Trial
    kernels        kernel, helper, prange, REDUCTION, empty; run_shares, share_count, span, plain; importing one of these imports Numba
    plans          replayable, choose: work that compiled plans do again
    versions       API_VERSION, OLDEST_API_VERSION, require_api, ApiVersionError

**What a version promises.** Every name in `__all__` at version n stays, takes what it took and does what it did, for as long as
OLDEST_API_VERSION <= n. Names, and optional arguments at the end, may be added within a version. Taking one away, or changing what it
means, makes a new version; the one before it is supported for a year beside it. What is not listed here, and modules other than this
one and `tinygrad_cv.testing`, may change in any release. `require_api` and the entry point group `tinygrad_cv.ops` never change, so that a
package built for a version that is not supported is told so, by name, before it imports anything else.

Version 1 has the names above.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._tensor import Tensor
from .autograd import no_grad
from .domain import Booleans, Call, Domain, Draw, Integers, OneOf, Real, call, elementwise
from .laws import (
    Adjoint,
    Batched,
    Equivariant,
    Homogeneous,
    Idempotent,
    Inverse,
    Involution,
    Law,
    Linear,
    PermutationEquivariant,
    Symmetric,
    TranslationEquivariant,
    Trial,
)
from .registry import API_VERSION, OLDEST_API_VERSION, Array, Composite, Elementwise, Op, Operator, get, op, unregister
from .replay import choose, replayable

if TYPE_CHECKING:
    from .kernels.jit import REDUCTION, helper, kernel, prange
    from .kernels.memory import empty
    from .kernels.shares import plain, run_shares, share_count, span

_KERNEL_NAMES = {
    "REDUCTION": "jit", "helper": "jit", "kernel": "jit", "prange": "jit", "empty": "memory", "run_shares": "shares",
    "plain": "shares", "share_count": "shares", "span": "shares",
}  # fmt: skip


class ApiVersionError(ImportError):
    """An operator package was built for a version of `tinygrad_cv.extend` that this tinygrad_cv does not have."""


def require_api(version: int) -> None:
    """Says which API_VERSION a package was built for; the first thing that it does.

    ApiVersionError if this tinygrad_cv does not have that version any more, or not yet; it says which of the two to upgrade. TypeError for
    anything but an integer.
    """
    if isinstance(version, bool) or not isinstance(version, int):
        raise TypeError(f"require_api: expected an integer, the API_VERSION that the package was built for, got {version!r}")
    if OLDEST_API_VERSION <= version <= API_VERSION:
        return
    from ._version import __version__

    supported = f"{OLDEST_API_VERSION} to {API_VERSION}" if OLDEST_API_VERSION < API_VERSION else str(API_VERSION)
    advice = "upgrade tinygrad_cv" if version > API_VERSION else "upgrade the package"
    raise ApiVersionError(
        f"built for version {version} of the plugin API, and tinygrad_cv {__version__} has version {supported}: {advice}"
    )


def __getattr__(name: str) -> Any:
    if name not in _KERNEL_NAMES:
        raise AttributeError(f"module {__name__!r} (version {API_VERSION} of the plugin API) has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__package__}.kernels.{_KERNEL_NAMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "API_VERSION", "OLDEST_API_VERSION", "REDUCTION", "Adjoint", "ApiVersionError", "Array", "Batched", "Booleans", "Call",
    "Composite", "Domain", "Draw", "Elementwise", "Equivariant", "Homogeneous", "Idempotent", "Integers", "Inverse", "Involution",
    "Law", "Linear", "OneOf", "Op", "Operator", "PermutationEquivariant", "Real", "Symmetric", "Tensor", "TranslationEquivariant",
    "Trial", "call", "choose", "elementwise", "empty", "get", "helper", "kernel", "no_grad", "op", "plain", "prange", "replayable",
    "require_api", "run_shares", "share_count", "span", "unregister",
]  # fmt: skip
