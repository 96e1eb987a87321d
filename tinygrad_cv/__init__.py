"""tinygrad_cv: a graph-based autograd engine for computer vision (no part of tinygrad).

    import tinygrad_cv as tg

Importing it imports NumPy and itself: Numba, graphviz, matplotlib and Hypothesis wait until something needs them. Operators
(`tg.conv2d`, `tg.exp`, ...) are those of the registry, built-in or from plugin packages.
"""

from __future__ import annotations

import importlib
import math as _math
import os.path
from typing import TYPE_CHECKING, Any

if not os.path.isdir(os.path.join(__path__[0], "ops")):  # a source checkout: ops/, models/ and viz/ stand beside this folder
    __path__.append(os.path.dirname(__path__[0]))

from . import autograd, dtypes
from ._tensor import Tensor
from ._version import __version__
from .autograd import (
    enable_grad,
    inference_mode,
    is_anomaly_enabled,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .creation import *  # noqa: F403
from .creation import __all__ as _creators
from .devices import Device, get_default_device, set_default_device
from .dtypes import (
    bool_,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from .queries import is_floating_point, is_tensor, numel
from .random import (
    Generator,
    are_deterministic_algorithms_enabled,
    get_rng_state,
    initial_seed,
    is_deterministic_algorithms_warn_only_enabled,
    manual_seed,
    seed,
    set_rng_state,
    use_deterministic_algorithms,
)
from .registry import find as _find

inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e
device = Device
dtype = dtypes.np.dtype
half, float, double = float16, float32, float64
short, int, long = int16, int32, int64
bool = bool_

from . import indexing  # isort: skip  (puts `x[...]` on Tensor)
from . import ops  # type: ignore[attr-defined]  # isort: skip  (registers the built-in operators)

_LAZY_MODULES = (
    "accelerator", "backends", "cli", "compiler", "cuda", "data", "domain", "expressions", "extend", "graph", "kernels", "linalg",
    "memory", "costs", "models", "nn", "optim", "profiler", "random", "testing", "train", "utils", "viz",
)  # fmt: skip
_LAZY_NAMES = {
    "compile": ".compiler", "save": ".files", "load": ".files", "CheckpointError": ".files", "set_num_threads": ".kernels",
    "get_num_threads": ".kernels",
    "get_conv_precision": ".precision", "set_conv_precision": ".precision",
    "get_float32_matmul_precision": ".backends", "set_float32_matmul_precision": ".backends",
}  # fmt: skip

if TYPE_CHECKING:
    from . import (  # type: ignore[attr-defined]
        accelerator,
        backends,
        cuda,
        data,
        extend,
        graph,
        kernels,
        linalg,
        memory,
        models,
        nn,
        optim,
        testing,
        train,
        utils,
        viz,
    )
    from ._operator_stubs import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _LAZY_NAMES:
        value = getattr(importlib.import_module(_LAZY_NAMES[name], __name__), name)
        globals()[name] = value
        return value
    operator = _find(name)
    if operator is not None:
        value = operator.function
    elif name.endswith("_") and (operator := _find(name[:-1])) is not None and operator.has_inplace:
        value = operator.inplace
    else:
        raise AttributeError(f"module 'tinygrad_cv' has no attribute {name!r}")
    globals()[name] = value  # found at once from now on; the registry drops it when the operator goes
    return value


def __dir__() -> list[str]:
    from .registry import operators

    names = {(n, o.has_inplace) for o in operators() if not o.internal for n in (o.name, *o.aliases) if "." not in n}
    in_place = (name + "_" for name, has_inplace in names if has_inplace)
    own = (name for name, value in globals().items() if not hasattr(value, "operator"))  # those kept are listed as operators
    return sorted({*own, *_LAZY_MODULES, *_LAZY_NAMES, *(name for name, _ in names), *in_place})


__all__ = [
    "Device", "Generator", "Tensor", "__version__", "autograd", "device", "dtype", "dtypes", "e", "enable_grad",
    "get_default_device", "get_default_dtype", "get_rng_state", "inf", "inference_mode", "initial_seed", "is_anomaly_enabled",
    "is_floating_point", "is_grad_enabled", "is_inference_mode_enabled", "is_tensor", "manual_seed", "nan", "no_grad", "numel", "ops",
    "pi", "promote_types", "seed", "set_default_device", "set_default_dtype", "set_grad_enabled", "set_rng_state", *_creators,
]  # fmt: skip
