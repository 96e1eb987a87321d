"""Module: a tree of parameters, buffers and child modules that is called like a function."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

from .._state import Scope, state
from .._tensor import RemovableHandle, Tensor
from .parameter import Parameter
from .state import IncompatibleKeys, clear_grad, convert, load

_REGISTERS = ("_parameters", "_buffers", "_modules")


class Module:
    """Base of all layers and networks. A subclass calls `super().__init__()`, assigns its parts, and writes `forward`.

    Assigning a `Parameter` or a `Module` as an attribute registers it; `register_buffer` registers a Tensor that is saved with
    the module but not learned. Operators that run inside a call record where: the class name of the outermost module, then the
    names under which the modules are registered, joined by dots ('LeNet5.features.0').
    """

    # Each registered part is also an ordinary attribute, so that reading one costs no more than that.
    training: bool = True
    _changes: ClassVar[list[int]] = [
        0
    ]  # how often an attribute of any module was set: compiled plans look at modules when it moves
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _name: str | None = None  # under which the parent registered this module
    _hooked: bool = False  # some hook is registered: the call takes the long way
    _transient: frozenset[str] = frozenset()  # buffers that state_dict leaves out
    _forward_pre_hooks: dict[int, Any]
    _forward_hooks: dict[int, Any]
    _backward_pre_hooks: dict[int, Any]
    _backward_hooks: dict[int, Any]

    def __init__(self) -> None:
        for name in (*_REGISTERS, "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
            self.__dict__[name] = {}
        self.__dict__["training"] = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define what it computes")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outer = state.scope
        state.scope = scope = Scope(f"{outer}.{self._name or type(self).__name__}" if outer else type(self).__name__)
        scope.outer = outer
        try:
            if self._hooked:
                from .hooks import call_with_hooks

                return call_with_hooks(self, args, kwargs)
            return self.forward(*args, **kwargs)
        finally:
            state.scope = outer

    # Attributes -------------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        Module._changes[0] += 1
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self.add_module(name, value)
        elif "_parameters" not in own:
            object.__setattr__(self, name, value)
        elif name in own["_parameters"]:
            if value is not None:
                raise TypeError(
                    f"{type(self).__name__}.{name} is a registered parameter: it can be replaced by an nn.Parameter or None, not by "
                    f"a {type(value).__name__}; to change its values write under no_grad, or assign to .data"
                )
            self.register_parameter(name, None)
        elif name in own["_modules"]:
            if value is not None:
                raise TypeError(
                    f"{type(self).__name__}.{name} is a registered module: expected a Module or None, got {type(value).__name__}"
                )
            own["_modules"][name] = own[name] = None
        elif name in own["_buffers"]:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a registered buffer: expected a Tensor or None, got {type(value).__name__}"
                )
            own["_buffers"][name] = own[name] = value
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        Module._changes[0] += 1
        for register in _REGISTERS:
            self.__dict__.get(register, {}).pop(name, None)
        object.__delattr__(self, name)

    def __getattr__(self, name: str) -> Any:
        if name in _REGISTERS or (name.startswith("_") and name.endswith("_hooks")):
            raise AttributeError(f"{type(self).__name__}.__init__() must call super().__init__() before anything else")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _check_new(self, kind: str, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a {kind} must be a string, got {type(name).__name__}")
        if "." in name or not name:
            raise KeyError(f"the name of a {kind} must not be empty or contain a dot, got {name!r}")
        if "_parameters" not in self.__dict__:
            raise AttributeError(
                f"cannot assign {kind} {name!r}: {type(self).__name__}.__init__() must call super().__init__() before anything else"
            )

    def _take_name(self, register: str, kind: str, name: str) -> None:
        """Checks that `name` is free for a part in `register`, and removes it from the other registers."""
        self._check_new(kind, name)
        if hasattr(type(self), name) and not any(name in self.__dict__[other] for other in _REGISTERS):
            raise KeyError(f"cannot register {kind} {name!r}: {type(self).__name__} has an attribute of that name")
        for other in _REGISTERS:
            if other != register:
                self.__dict__[other].pop(name, None)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter; None keeps the name with nothing to learn. TypeError for a plain Tensor or a non-leaf."""
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(f"cannot register {name!r}: expected an nn.Parameter or None, got {type(param).__name__}")
            if not param.is_leaf:
                raise ValueError(
                    f"cannot register {name!r}: a parameter must be a leaf, this one was computed by {param._node!r}"
                )
        Module._changes[0] += 1
        self._take_name("_parameters", "parameter", name)
        self._parameters[name] = self.__dict__[name] = param
        if param is not None and param.name is None:
            param.name = name

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a Tensor that is part of the module but not learned, such as a running mean; saved if `persistent`."""
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot register buffer {name!r}: expected a Tensor or None, got {type(tensor).__name__}")
        Module._changes[0] += 1
        self._take_name("_buffers", "buffer", name)
        self._buffers[name] = self.__dict__[name] = tensor
        self.__dict__["_transient"] = self._transient - {name} if persistent else self._transient | {name}

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a child module, which `self.<name>` then is."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"cannot register module {name!r}: expected a Module or None, got {type(module).__name__}")
        self._take_name("_modules", "module", name)
        self._modules[name] = self.__dict__[name] = module
        if module is not None:
            module._set_name(self._child_name(name))
            if "_parameters" in module.__dict__:
                for local, parameter in module.named_parameters():
                    if parameter.name == local:
                        parameter.name = f"{module._name}.{local}"

    register_module = add_module

    def _set_name(self, name: str) -> None:
        self.__dict__["_name"] = name

    def _child_name(self, name: str) -> str:
        """What a child registered as `name` contributes to the scope of operators."""
        return name

    # The tree ---------------------------------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module and of all below it, parents first; a shared one once unless told otherwise."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct children."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, register: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, member in getattr(module, register).items():
                if member is None or (remove_duplicate and id(member) in seen):
                    continue
                seen.add(id(member))
                yield f"{path}.{name}" if path else name, member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of this module and, with `recurse`, of all below it."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, in the order of registration: what an optimizer is given."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer) of this module and, with `recurse`, of all below it."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted name such as 'features.0'; '' is this one. AttributeError names the part that is not there."""
        module: Module = self
        walked: list[str] = []
        for part in target.split(".") if target else ():
            found = module._modules.get(part)
            if found is None:
                where = f"{type(module).__name__} at {'.'.join(walked)!r}" if walked else type(module).__name__
                raise AttributeError(f"{where} has no child module {part!r}; it has {', '.join(module._modules) or 'none'}")
            module = found
            walked.append(part)
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted name such as 'features.0.weight'."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._parameters.get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no parameter {target!r}")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted name such as 'bn1.running_mean'."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._buffers.get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no buffer {target!r}")
        return found

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Calls `fn` on every module below this one and then on this one; usually to initialise."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # Modes ------------------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Sets training mode (dropout drops, batch norm uses the batch) or, with False, evaluation mode."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode must be True or False, got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Sets evaluation mode."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Starts or stops gradients for all parameters; False freezes the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients, or fills them with zeros."""
        for parameter in self.parameters():
            clear_grad(parameter, set_to_none)

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """All parameters and persistent buffers by dotted name, sharing memory with the module (detached unless `keep_vars`)."""
        found: dict[str, Any] = OrderedDict() if destination is None else destination
        for path, module in self.named_modules(prefix=prefix.removesuffix("."), remove_duplicate=False):
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None and name not in module._transient:
                    found[f"{path}.{name}" if path else name] = tensor if keep_vars else tensor.detach()
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> IncompatibleKeys:
        """Copies values (Tensors or arrays) into the parameters and persistent buffers of the same names.

        strict: names must agree exactly. assign: take the given tensors themselves, dtype included, instead of copying.
        Everything is checked before anything is written: one RuntimeError lists all missing, unexpected and wrongly shaped
        entries, and the module is then unchanged. Returns (missing_keys, unexpected_keys).
        """
        return load(self, state_dict, strict, assign)

    # Dtype and device -------------------------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Changes the dtype of all floating parameters and buffers, or the device: `to(dtype)`, `to(device)`, `to(tensor)`."""
        convert(self, args, kwargs)
        return self

    def type(self, dst_type: Any) -> Self:
        """As `to(dtype)`."""
        return self.to(dtype=dst_type)

    def float(self) -> Self:
        """All floating parameters and buffers as float32."""
        return self.to(dtype="float32")

    def double(self) -> Self:
        """All floating parameters and buffers as float64."""
        return self.to(dtype="float64")

    def half(self) -> Self:
        """All floating parameters and buffers as float16."""
        return self.to(dtype="float16")

    def cpu(self) -> Self:
        """The module in main memory."""
        return self.to(device="cpu")

    def cuda(self, device: int | None = None) -> Self:
        """The module on the GPU; RuntimeError with the reason where there is none."""
        return self.to(device="cuda" if device is None else f"cuda:{device}")

    # Hooks ------------------------------------------------------------------------------------------------------------

    def _add_hook(self, hooks: dict[int, Any], entry: Any, prepend: bool) -> RemovableHandle:
        Module._changes[0] += 1
        self.__dict__["_hooked"] = True
        handle = RemovableHandle(hooks, entry)
        if prepend:
            others = {key: value for key, value in hooks.items() if value is not entry}
            for key, value in others.items():
                del hooks[key]
                hooks[key] = value
        return handle

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """`hook(module, args)` runs before forward; what it returns replaces the arguments.

        With `with_kwargs` it is `hook(module, args, kwargs)` and returns a pair (args, kwargs) or None.
        """
        return self._add_hook(self._forward_pre_hooks, (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """`hook(module, args, output)` runs after forward; what it returns replaces the output.

        With `with_kwargs` it is `hook(module, args, kwargs, output)`. always_call: also when forward raised (output is None).
        """
        return self._add_hook(self._forward_hooks, (hook, with_kwargs, always_call), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_input, grad_output)` runs when the gradients of the module's inputs are known.

        Both are tuples, with None for what is no tensor or has no gradient; a returned tuple replaces `grad_input`.
        """
        return self._add_hook(self._backward_hooks, hook, prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_output)` runs before the module's backward; a returned tuple replaces `grad_output`."""
        return self._add_hook(self._backward_pre_hooks, hook, prepend)

    # Text -------------------------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """The settings that `repr` shows in the parentheses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()]
        if len(lines) == 1 and not children:
            return f"{self._get_name()}({lines[0]})"
        body = "".join(f"\n  {line}" for line in (*lines, *children))
        return f"{self._get_name()}({body}\n)" if body else f"{self._get_name()}()"
