"""What an operator is: the bases of declarations, and `Operator`, which reads one and makes its functions.

How to read a declaration:

* `reference` is plain NumPy and gives the operator its public signature. Parameters annotated `Array`, `Array | None` or
  `list[Array]` are tensors; all others are attributes.
* `grad_<parameter>` is the backward rule for one tensor parameter; `backward` is one rule for all of them, returning a tuple.
  A rule asks for what it needs by parameter name: `upstream` (or `upstreams`), any parameter of the operator, `out` or a
  named output, and `ctx` (`.shapes`, `.dtypes`, `.needs`, `.attrs`). What a rule asks for is what is saved, nothing else.
* `prepare` (optional) validates and canonicalises the arguments before any work is done.
* `compose` (of a `Composite`) writes the operator in other operators, whose rules then differentiate it.
"""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .laws import Law


class Array(np.ndarray):
    """Annotation of an operator's tensor parameter. In `reference` and kernels it is a `numpy.ndarray`."""


class Op:
    """Base of operator declarations with a reference, and a backward rule for every differentiable tensor parameter."""

    promotes: ClassVar[Sequence[str]] = ()  # tensor parameters brought to one dtype first (PyTorch's promotion)
    int_to_float: ClassVar[bool] = False  # integer operands become the default floating dtype
    broadcasts: ClassVar[bool] = False  # tensor parameters broadcast; gradients are summed back centrally
    nondiff: ClassVar[Sequence[str]] = ()  # tensor parameters without a gradient (indices, masks, targets)
    differentiable: ClassVar[bool] = True  # False: no output ever requires grad
    outputs: ClassVar[Sequence[str]] = ("out",)
    view: ClassVar[bool] = False  # the output shares the memory of the only tensor parameter
    quiet: ClassVar[bool] = True  # the reference may raise floating-point warnings, which are silenced
    values_shape: ClassVar[bool] = False  # the shape of the result depends on the values of the operands
    random: ClassVar[bool] = False  # draws random numbers: two calls differ
    into: ClassVar[str] = ""  # 'module:function' that writes the result into its keyword argument `out`, for compiled plans
    # For compiled plans, by the names of elementwise operators, one or "a b" in their order: kernels of this operator and those as one.
    followed_by: ClassVar[Mapping[str, str]] = {}  # on what this one gives; their other operands come as the keyword `others`
    preceded_by: ClassVar[
        Mapping[str, str]
    ] = {}  # making this one's first operand, so too; `keep`: it is a last output besides
    mutates: ClassVar[Sequence[str]] = ()  # tensor parameters it may write to (running statistics)
    older: ClassVar[Callable[..., str] | None] = None  # `reduction`, from PyTorch's (size_average, reduce, reduction)


class Elementwise(Op):
    """Base of operators computed one element at a time: operands broadcast and promote.

    `scalar` is the operator as a Python expression over its parameters and over the functions of the kernel library (`exp`,
    `log`, `tanh`, ...); the CPU kernel and the operator's place in fused kernels are derived from it.
    """

    broadcasts = True
    scalar: ClassVar[str | None] = None


class Composite(Op):
    """Base of operators written in other operators: `compose` takes and returns Tensors, so no backward rule is needed."""


class Operator:
    """A registered operator. Calling it runs it; the attributes are what was declared."""

    def __init__(
        self,
        declaration: type[Op],
        name: str,
        *,
        domain: Any,
        formula: str,
        kinks: Mapping[float, float] | Sequence[str] | None,
        source: str,
        kernels: Mapping[str, str] | None,
        cost: Callable[..., tuple[float, float]] | None,
        method: bool,
        inplace: bool,
        tolerance: float | None,
        provider: str,
        gradgrad: bool,
        internal: bool = False,
        aliases: Sequence[str] = (),
        keywords: Mapping[str, str] | None = None,
        laws: Sequence[Law] = (),
    ) -> None:
        self.name = name
        self.declaration = declaration
        self.provider = provider
        self.domain = domain
        self.formula = formula
        self.kinks = kinks or {}
        self.source = source
        self.cost = cost
        self.has_method = method
        self.has_inplace = inplace
        self.tolerance = tolerance
        self.gradgrad = gradgrad
        self.internal = internal
        self.aliases = tuple(aliases)

        self.elementwise = issubclass(declaration, Elementwise)
        self.composite = issubclass(declaration, Composite)
        self.view = declaration.view
        self.broadcasts = declaration.broadcasts
        self.quiet = declaration.quiet
        self.random = declaration.random
        self.values_shape = declaration.values_shape
        self.into = declaration.into
        self.followed_by = declaration.followed_by
        self.preceded_by = declaration.preceded_by
        self.outputs = tuple(declaration.outputs)
        self.int_to_float = declaration.int_to_float
        self.scalar = getattr(declaration, "scalar", None)

        if not hasattr(declaration, "reference"):
            raise TypeError(f"operator {name!r} ({provider}): a `reference` in NumPy is required")
        if not callable(domain):
            raise TypeError(f"operator {name!r} ({provider}): a `domain` that the tests can sample is required")
        if not formula or not declaration.__doc__:
            raise TypeError(f"operator {name!r} ({provider}): a `formula` and a docstring are required")
        self.reference: Callable[..., Any] = declaration.reference
        self.prepare: Callable[..., Any] | None = getattr(declaration, "prepare", None)
        self.compose: Callable[..., Any] | None = getattr(declaration, "compose", None)
        self.write: Callable[..., Any] | None = getattr(declaration, "write", None)
        self.older = declaration.older
        self._read_parameters()
        self._read_keywords(keywords or {})
        self._read_rules()
        self.laws = self._read_laws(laws)
        self.promotes: tuple[int, ...] = (
            tuple(range(len(self.tensor_params)))
            if self.elementwise and not declaration.promotes
            else tuple(self.tensor_params.index(p) for p in declaration.promotes)
        )
        self.result = namedtuple(f"{name.replace('.', '_')}_result", self.outputs) if len(self.outputs) > 1 else None
        self._save_plans: dict[tuple[bool, ...], tuple[tuple[str, int], ...]] = {}
        self._kernel_paths: dict[str, Any] = dict(kernels or {})
        self._kernels: dict[str, Callable[..., Any] | None] = {}
        self.run: Callable[[tuple[Any, ...], tuple[Any, ...]], Any] | None = None  # made by dispatch at the first call

    # Made when first asked for: a process uses a few of the operators, and importing the package pays for none.

    @cached_property
    def doc(self) -> str:
        """The declaration's docstring, without its indentation."""
        return inspect.cleandoc(self.declaration.__doc__ or "")

    @cached_property
    def own_signature(self) -> inspect.Signature:
        """The signature of the reference, and of `prepare` and `compose` with it."""
        return inspect.signature(self.reference)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The public signature: the reference's, with PyTorch's older arguments where the operator has them."""
        return self.own_signature if self.older is None else _with_older(self.own_signature)

    @cached_property
    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
        return _generate(self)

    @cached_property
    def bind(self) -> Callable[..., Any]:
        """bind(f, tensors, attrs) calls `f` with the arguments where its signature has them."""
        return self._functions[0]

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The public function."""
        return self._functions[1]

    @cached_property
    def inplace(self) -> Callable[..., Any]:
        """The in-place form of the public function."""
        return self._functions[2]

    def _read_parameters(self) -> None:
        self.tensor_params: tuple[str, ...] = ()
        self.optional_tensors: set[str] = set()
        self.variadic: str | None = None
        attrs = []
        annotations = self.reference.__annotations__
        for name in _parameter_names(self.reference):
            annotation = annotations.get(name, "")
            if not isinstance(annotation, str):
                annotation = annotation.__name__ if isinstance(annotation, type) else str(annotation)
            text = annotation.replace(f"{Array.__module__}.", "").replace("extend.", "")
            if text.startswith("Array"):
                self.tensor_params += (name,)
                if "None" in text:
                    self.optional_tensors.add(name)
            elif text == "list[Array]":
                self.variadic = name
                self.tensor_params += (name,)
            else:
                attrs.append(name)
        self.attr_params: tuple[str, ...] = tuple(attrs)
        if self.variadic and len(self.tensor_params) > 1:
            raise TypeError(f"operator {self.name!r}: `{self.variadic}: list[Array]` must be the only tensor parameter")

    def _read_keywords(self, declared: Mapping[str, str]) -> None:
        """Names under which parameters may be passed besides their own: declared ones, NumPy's, and that of `*sizes` itself."""
        names = _parameter_names(self.reference)
        unknown = set(declared.values()) - set(names) or set(declared) & set(names)
        if unknown:
            raise TypeError(f"operator {self.name!r}: keywords must give parameters another name; wrong: {sorted(unknown)}")
        star = _starred_name(self.reference)
        own = {star: star} if star and star != self.variadic else {}
        numpy = {other: name for other, name in (("axis", "dim"), ("keepdims", "keepdim")) if name in self.attr_params}
        self.keywords: dict[str, str] = {**numpy, **own, **declared}

    def _read_laws(self, laws: Sequence[Law]) -> tuple[Law, ...]:
        """The laws as declared, which must be about tensor parameters of this operator."""
        for law in laws:
            if not isinstance(law, Law):
                raise TypeError(f"operator {self.name!r}: laws must be of tinygrad_cv.laws, got {law!r}")
            unknown = [p for p in law.parameters if p not in self.tensor_params]
            if unknown:
                raise TypeError(
                    f"operator {self.name!r}: {law!r} names no tensor parameter with {', '.join(map(repr, unknown))}; they are "
                    f"{', '.join(self.tensor_params)}"
                )
        return tuple(laws)

    def _read_rules(self) -> None:
        """Turns the rules' parameter names into getters, and checks that nothing differentiable was forgotten."""
        declaration, nondiff = self.declaration, set(self.declaration.nondiff)
        unknown = nondiff - set(self.tensor_params)
        if unknown:
            raise TypeError(f"operator {self.name!r}: nondiff names no tensor parameter: {sorted(unknown)}")
        self.rules: dict[int, tuple[Callable[..., Any], tuple[tuple[str, int], ...]]] = {}
        self.joint_rule: tuple[Callable[..., Any], tuple[tuple[str, int], ...]] | None = None
        self.differentiable = declaration.differentiable and not self.composite
        self.nondiff = tuple(p in nondiff for p in self.tensor_params)
        if not self.differentiable:
            return
        joint = getattr(declaration, "backward", None)
        if joint is not None:
            self.joint_rule = (joint, self.getters(joint))
            return
        missing = []
        for i, p in enumerate(self.tensor_params):
            rule = getattr(declaration, f"grad_{p}", None)
            if rule is not None:
                self.rules[i] = (rule, self.getters(rule))
            elif not self.nondiff[i]:
                missing.append(p)
        if missing:
            raise TypeError(
                f"operator {self.name!r} ({self.provider}): no backward rule for {', '.join(missing)}; write grad_{missing[0]} or "
                "backward, name it in `nondiff`, or set `differentiable = False`"
            )

    def getters(self, rule: Callable[..., Any]) -> tuple[tuple[str, int], ...]:
        """Where the values are that a rule asks for by its parameters' names: pairs (kind, position)."""
        getters: list[tuple[str, int]] = []
        for p in _parameter_names(rule):
            if p in ("upstream", "upstreams", "ctx"):
                getters.append((p, 0))
            elif p == self.variadic:
                getters.append(("list", 0))
            elif p in self.tensor_params:
                getters.append(("in", self.tensor_params.index(p)))
            elif p in self.outputs:
                getters.append(("out", self.outputs.index(p)))
            elif p in self.attr_params:
                getters.append(("attr", self.attr_params.index(p)))
            else:
                raise TypeError(
                    f"operator {self.name!r} ({self.provider}): backward rule {rule.__name__} asks for {p!r}, which is neither an "
                    f"input, an output, an attribute, nor one of upstream, upstreams, ctx"
                )
        return tuple(getters)

    def save_plan(self, needs: tuple[bool, ...]) -> tuple[tuple[str, int], ...]:
        """What must be kept for backward when the inputs flagged in `needs` want a gradient: pairs ('in' | 'out', position)."""
        plan = self._save_plans.get(needs)
        if plan is None:
            used = [self.joint_rule] if self.joint_rule else [r for i, r in self.rules.items() if self.variadic or needs[i]]
            wanted = dict.fromkeys(g for _, getters in used for g in getters if g[0] in ("in", "out", "list"))
            if ("list", 0) in wanted:
                wanted = {k: None for k in wanted if k[0] != "list"} | {("in", i): None for i in range(len(needs))}
            plan = self._save_plans[needs] = tuple(wanted)
        return plan

    def forget_rules(self) -> None:
        """Reads `rules` and `joint_rule` anew at the next backward: they have been changed."""
        from .kernels import fusion

        self._save_plans.clear()
        fusion.forget(self)

    def kernel(self, device: str = "cpu") -> Callable[..., Any] | None:
        """The kernel for `device`, imported at first use; None where there is none or Numba is missing or switched off."""
        if device not in self._kernels:
            from . import kernels

            self._kernels[device] = kernels.resolve(self, self._kernel_paths.get(device), device)
        return self._kernels[device]

    def devices(self) -> tuple[str, ...]:
        """Devices with a kernel of their own (every operator has its NumPy reference on the CPU besides)."""
        derived = ("cpu",) if self.elementwise and self.scalar else ()
        return tuple(dict.fromkeys((*derived, *self._kernel_paths)))

    def attach_kernel(self, device: str, kernel: Any) -> None:
        """Attaches `kernel`, a callable or a lazy path 'package.module:function', with the reference's signature."""
        self._kernel_paths[device] = kernel
        self.forget_kernels()

    def forget_kernels(self) -> None:
        """Resolves the kernels anew at the next call."""
        self._kernels.clear()
        self.run = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<operator {self.name} ({self.provider})>"


def _starred_name(function: Callable[..., Any]) -> str | None:
    """The name of a function's `*parameter`, if it has one."""
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__"):
        return next((p.name for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_POSITIONAL), None)
    return code.co_varnames[code.co_argcount + code.co_kwonlyargcount] if code.co_flags & inspect.CO_VARARGS else None


def _parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's parameters in order, as `inspect.signature` gives them at a tenth of the price."""
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__"):
        return tuple(inspect.signature(function).parameters)
    positional, keyword = code.co_argcount, code.co_kwonlyargcount
    names = code.co_varnames
    starred = (names[positional + keyword],) if code.co_flags & inspect.CO_VARARGS else ()
    return (*names[:positional], *starred, *names[positional : positional + keyword])


def _with_older(signature: inspect.Signature) -> inspect.Signature:
    """A loss's signature with `size_average` where its star is, and `reduce` before `reduction`; all may be given by position."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    older = {n: inspect.Parameter(n, kind, default=None) for n in ("size_average", "reduce")}
    parameters: list[inspect.Parameter] = []
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and "size_average" in older:
            parameters.append(older.pop("size_average"))
        if p.name == "reduction":
            parameters.append(older.pop("reduce"))
        parameters.append(p.replace(kind=kind))
    return signature.replace(parameters=parameters)


class _Missing:
    """The default of a required parameter that has another name too: it may still come under that one."""

    def __repr__(self) -> str:
        return "<required>"


_MISSING = _Missing()


def _folded(operator: Operator, given: dict[str, Any], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values of all parameters, with those that were given under another of their names; TypeError for an unknown name.

    NumPy's own functions pass `out=None` and the like when they hand a tensor its method; None is taken as not given.
    """
    parameters = operator.signature.parameters
    found = dict(zip(parameters, values, strict=True))
    for other, value in given.items():
        name = operator.keywords.get(other)
        if name is None:
            if value is None:
                continue
            if other == "out":
                _refuse_out(operator)
            raise TypeError(f"{operator.name}() got an unexpected keyword argument {other!r}")
        parameter = parameters[name]
        starred = parameter.kind is parameter.VAR_POSITIONAL
        unset = _MISSING if parameter.default is parameter.empty else parameter.default
        if found[name] if starred else found[name] is not unset:
            raise TypeError(f"{operator.name}() got {name!r} twice, as {found[name]} and as {other}={value}")
        found[name] = (value,) if starred else value
    for name, value in found.items():
        if value is _MISSING:
            raise TypeError(f"{operator.name}() missing a required argument: {name!r}")
    return tuple(found.values())


def _refuse_out(operator: Operator) -> None:
    call = f"{operator.name}(...)"
    raise TypeError(
        f"{operator.name}: results are always new tensors, there is no out=; write y = {call}, or y.copy_({call}) to reuse y"
    )


def _generate(operator: Operator) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Writes three small functions for an operator: the binder of arguments, the public function, its in-place form.

    Text, not closures over `inspect.Signature.bind`: binding by generated code costs what a plain Python call costs.
    """
    from . import dispatch

    parameters = list(operator.signature.parameters.values())
    own = operator.own_signature.parameters
    defaults = {f"_default_{p.name}": p.default for p in parameters if p.default is not p.empty}
    declared, star, passed, bound = [], False, [], []
    renamed = set(operator.keywords.values())
    late: list[str] = []  # required parameters that may come under another name, and those after the first of them
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not star:
            declared.append("*")
            star = True
        if p.kind is p.VAR_POSITIONAL:
            declared.append(f"*{p.name}")
            star = True
        elif p.default is not p.empty:
            declared.append(f"{p.name}=_default_{p.name}")
        elif p.name in renamed or late:
            declared.append(f"{p.name}=_missing")
            late.append(p.name)
        else:
            declared.append(p.name)
        if p.name not in own:
            continue
        prefix = f"{p.name}=" if own[p.name].kind is p.KEYWORD_ONLY else ""
        if p.name == operator.variadic:
            value = "t" if p.kind is not p.VAR_POSITIONAL else "*t"
        elif p.name in operator.tensor_params:
            value = f"t[{operator.tensor_params.index(p.name)}]"
        else:
            value = f"a[{operator.attr_params.index(p.name)}]"
        bound.append(prefix + value)
        passed.append(prefix + ("*" if p.kind is p.VAR_POSITIONAL else "") + p.name)
    tensors = f"tuple({operator.variadic})" if operator.variadic else f"({''.join(p + ', ' for p in operator.tensor_params)})"
    attrs = f"({''.join(p + ', ' for p in operator.attr_params)})"
    identifier = operator.name.rsplit(".", 1)[-1]
    names = ", ".join(p.name for p in parameters)
    if operator.keywords:
        declared.append("**other_names")
        condition = " or ".join(["other_names", *(f"{name} is _missing" for name in late)])
        prepare = f"    if {condition}: {names}, = _folded(_op, other_names, ({names},))\n"
    else:
        declared.extend(["out=None"] if star else ["*", "out=None"])
        prepare = "    if out is not None: _refuse_out(_op)\n"
    if operator.older:
        older = "size_average, reduce, reduction"
        prepare += f"    if size_average is not None or reduce is not None: reduction = _older({older})\n"
    if operator.prepare:
        prepare += (
            f"    try:\n        {', '.join(own)}, = _prepare({', '.join(passed)})\n"
            f"    except AttributeError:\n        _explain(_op, {tensors})\n        raise\n"
        )
    shortcut = ""
    if "inplace" in operator.attr_params:
        shortcut = f"    if inplace: return _apply_inplace(_op, {tensors}, {attrs})\n"
    call = "_compose" if operator.composite else "_apply"
    text = (
        f"def bind(f, t, a):\n    return f({', '.join(bound)})\n"
        f"def {identifier}({', '.join(declared)}):\n{prepare}{shortcut}    return {call}(_op, {tensors}, {attrs})\n"
        f"def {identifier}_({', '.join(declared)}):\n{prepare}    return _apply_inplace(_op, {tensors}, {attrs})\n"
    )
    scope: dict[str, Any] = {
        "_op": operator, "_prepare": operator.prepare, "_explain": dispatch.explain_operands, "_apply": dispatch.apply,
        "_older": operator.older, "_folded": _folded, "_missing": _MISSING, "_refuse_out": _refuse_out,
        "_compose": dispatch.compose, "_apply_inplace": dispatch.apply_inplace, **defaults,
    }  # fmt: skip
    exec(compile(text, f"<tinygrad_cv operator {operator.name}>", "exec"), scope)
    function, inplace = scope[identifier], scope[identifier + "_"]
    for f, suffix in ((function, ""), (inplace, "_")):
        f.__doc__ = operator.doc if not suffix else f"In-place form of `{operator.name}`."
        f.__module__ = operator.declaration.__module__
        f.__qualname__ = f.__name__
        f.operator = operator
    return scope["bind"], function, inplace
