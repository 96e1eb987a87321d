"""The operator registry: the one door through which built-in and foreign operators enter.

An operator is declared once, as a class handed to the decorator `op`. From the declaration follow the public function,
the Tensor method, the backward pass, the documentation, the graph label and the property tests. Nothing here knows what a
Tensor is made of: `dispatch` runs operators, `autograd.engine` differentiates them. What a declaration may hold, and how it
is read, is in declaration.py; here are the names, who owns them, and how they are found.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .declaration import Array, Composite, Elementwise, Op, Operator
from .laws import Law

ENTRY_POINT_GROUP = "tinygrad_cv.ops"
API_VERSION = 1
OLDEST_API_VERSION = 1  # see extend.py for what a version promises

_operators: dict[str, Operator] = {}
_aliases: dict[str, Operator] = {}
_registration_hooks: list[Callable[[Operator], None]] = []
_discovered = False


class _Plugin(threading.local):
    """The plugin that this Python thread is loading: its package, and the packages of all plugins by the name of their module."""

    owner: str | None = None
    owners: Mapping[str, str] = {}


_plugin = _Plugin()


def op(
    name: str,
    *,
    domain: Any,
    formula: str,
    kinks: Mapping[float, float] | Sequence[str] | None = None,
    source: str = "",
    kernels: Mapping[str, str] | None = None,
    cost: Callable[..., tuple[float, float]] | None = None,
    method: bool = True,
    inplace: bool = False,
    tolerance: float | None = None,
    gradgrad: bool = True,
    internal: bool = False,
    aliases: Sequence[str] = (),
    keywords: Mapping[str, str] | None = None,
    laws: Sequence[Law] = (),
    override: bool = False,
) -> Callable[[type[Op]], Operator]:
    """Registers the decorated declaration as operator `name`.

    domain: what the tests sample, see `tinygrad_cv.domain`. formula: one line of mathematics. kinks: where the derivative jumps,
    as {location: derivative chosen there}, or the names of the conditions. source: paper and equation. kernels: lazy paths
    'module:function' by device. cost: function of shapes and attributes giving (FLOPs, bytes). method: also a Tensor method.
    inplace: also a `name_` form. tolerance: largest relative float32 error of a kernel. gradgrad: second derivative exists.
    internal: made for the rules and compositions of other operators, and not listed among the functions of the package.
    aliases: other names of the whole operator. keywords: other names of parameters, as in {"split_size": "split_size_or_sections"};
    `axis` and `keepdims` for `dim` and `keepdim`, and the name of `*sizes` as a keyword, go without saying. laws: what holds of it for
    all arguments, see `tinygrad_cv.laws`; tested.

    Raises ValueError for a name that is taken, naming both owners, unless `override=True`; TypeError for a declaration that
    lacks a reference, a rule, a domain or a formula.
    """

    def register(declaration: type[Op]) -> Operator:
        top = declaration.__module__.split(".")[0]
        provider = _plugin.owners.get(top, _plugin.owner or top)
        for wanted in (name, *aliases):
            taken = _operators.get(wanted) or _aliases.get(wanted)
            if taken is not None and not override:
                raise ValueError(
                    f"operator {wanted!r} is registered by {taken.provider} and again by {provider}; pass override=True to replace it"
                )
        replaced = _operators.get(name)
        operator = Operator(
            declaration, name, domain=domain, formula=formula, kinks=kinks, source=source, kernels=kernels, cost=cost,
            method=method, inplace=inplace, tolerance=tolerance, provider=provider, gradgrad=gradgrad, internal=internal,
            aliases=tuple(dict.fromkeys((*aliases, *(replaced.aliases if replaced else ())))), keywords=keywords, laws=laws,
        )  # fmt: skip
        _enter(operator)
        return operator

    return register


def _enter(operator: Operator) -> None:
    """Puts an operator, its aliases and its methods where they are found; those of one that it replaces go."""
    if operator.name in _operators:
        unregister(operator.name)
    for name in (operator.name, *operator.aliases):  # an alias may change hands while the operator that had it stays
        if name in _aliases:
            _drop(sys.modules[__package__], name, _aliases[name])
    _aliases.pop(operator.name, None)
    _operators[operator.name] = operator
    _aliases.update(dict.fromkeys(operator.aliases, operator))
    for hook in _registration_hooks:
        hook(operator)


def on_registration(hook: Callable[[Operator], None]) -> None:
    """Calls `hook` for every operator, registered or still to come (the Tensor class attaches its methods this way)."""
    _registration_hooks.append(hook)
    for operator in list(_operators.values()):
        hook(operator)


def discover(reload: bool = False) -> None:
    """Loads the operators that installed packages offer under the entry point group `tinygrad_cv.ops`.

    Each entry point names a module, or a callable that registers. One that fails is skipped with one warning that names it (see
    discovery.py: also for one that hangs); `discover(reload=True)` tries the failed ones again. The environment variables
    TINYGRAD_CV_PLUGIN_TIMEOUT (seconds, default 60, 0 for no limit) and TINYGRAD_CV_SKIP_PLUGINS (names of packages or entry points
    between commas, or *) say how long each may take and which are left alone.
    """
    global _discovered
    if _discovered and not reload:
        return
    from .discovery import load_all

    problems = load_all(only_failed=_discovered)
    _discovered = _discovered or problems is not None
    for problem in problems or ():  # after all are loaded: where warnings are errors, the first ends this
        warnings.warn(problem, RuntimeWarning, stacklevel=2)


def failed_plugins() -> dict[str, str]:
    """Why each plugin that was found could not be loaded, by 'package:entry point'."""
    from .discovery import failed

    return failed()


def _restore(before: dict[str, Operator], owner: str) -> None:
    """Takes back what `owner` registered since the operators were `before`, and brings back what it replaced or removed."""
    for added in [n for n, o in _operators.items() if before.get(n) is not o and o.provider == owner]:
        unregister(added)
    for name, operator in before.items():
        if name not in _operators:
            _enter(operator)


def find(name: str) -> Operator | None:
    """The operator called `name`, or known by it as an alias, looking at installed plugins only when no loaded operator has the name."""
    operator = _operators.get(name) or _aliases.get(name)
    if operator is None and not _discovered and not name.startswith("_"):
        discover()
        operator = _operators.get(name) or _aliases.get(name)
    return operator


def get(name: str) -> Operator:
    """The operator called `name`; KeyError with near names otherwise."""
    operator = find(name)
    if operator is None:
        import difflib

        near = difflib.get_close_matches(name, [*_operators, *_aliases], 3)
        raise KeyError(f"no operator is called {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    return operator


def operators(plugins: bool = True) -> list[Operator]:
    """All registered operators by name."""
    if plugins:
        discover()
    return [_operators[name] for name in sorted(_operators)]


def unregister(name: str) -> None:
    """Removes an operator (tests of plugins clean up with it). KeyError when there is none."""
    from ._tensor import Tensor as tensor_class

    operator = _operators.pop(name)
    for alias in [a for a, o in _aliases.items() if o is operator]:
        del _aliases[alias]
    for known in (operator.name, *operator.aliases):
        for place in (tensor_class, sys.modules[__package__]):
            _drop(place, known, operator)


def _drop(place: Any, name: str, operator: Operator) -> None:
    """Takes the functions of `operator` called `name` off a class or the package, where they are kept once found."""
    for attribute in (name, name + "_"):
        if getattr(vars(place).get(attribute), "operator", None) is operator:
            delattr(place, attribute)


__all__ = [
    "API_VERSION", "ENTRY_POINT_GROUP", "OLDEST_API_VERSION", "Array", "Composite", "Elementwise", "Op", "Operator", "discover",
    "failed_plugins", "find", "get", "on_registration", "op", "operators", "unregister",
]  # fmt: skip
