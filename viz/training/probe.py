"""Looks into one training step: activations on the way forward, gradients on the way back, weights before and after."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

import tinygrad_cv as tg
from tinygrad_cv import nn

BINS = 32  # of a histogram of activations, between its smallest and its largest value
DECADES = (-12.0, 3.0)  # of log10 |gradient|; what lies outside counts into the outermost bins
DECADE_BINS = 45  # three a decade
SAMPLED = 1 << 13  # values of a layer's tensor that are looked at, always in the same places; dead units are looked for in all
DEAD_AFTER = 10  # samples in a row without one positive output, on any example, make a unit dead

SATURATION = 0.97  # of a tanh's range: |tanh| above it leaves 1 - 0.97^2 = 6 % of the largest slope

_RECTIFIERS, _SIGMOIDS, _TANHS = ("relu", "relu6"), ("sigmoid",), ("tanh",)
_UNINTERESTING = ("Flatten", "Unflatten", "Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout")
_MAXIMUM_CALLS = 4  # of one module in one step that are recorded (a recurrent cell is called for every time step)


class Probe:
    """`attach()` before a step, `read()` after it. Between the two every layer carries a hook, and at no other time.

    Watched are the layers without children that compute something (no Flatten, no Dropout), under their names in the model, and
    activations that are functions (`F.relu`) where a module ends with one or takes one's result as its input. Only calls that
    record gradients count, so a validation in between does not. The hooks change no value and draw no random number.
    """

    def __init__(self, model: nn.Module, activations: bool = True) -> None:
        self.model, self.activations = model, activations
        self.names = {id(module): name for name, module in model.named_modules()}
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad and p.is_floating_point()}
        self.layers: dict[str, dict[str, Any]] = {}
        self.idle: dict[str, np.ndarray] = {}  # by layer: for how many samples in a row each unit gave nothing
        self.spent = 0.0  # seconds that the hooks took
        self._handles: list[Any] = []
        self._before: dict[str, np.ndarray] | None = None
        self._found: dict[str, dict[str, Any]] = {}
        self._calls: dict[str, int] = {}
        self._seen: list[Any] = []
        self._choices: dict[int, np.ndarray] = {}

    def attach(self) -> None:
        """Prepares for the next step: a copy of the weights, and hooks."""
        self.detach()
        self._found, self._calls, self._seen = {}, {}, []
        self._before = {name: p.detach().numpy().copy() for name, p in self.parameters.items()}
        if self.activations:
            self._handles = [module.register_forward_hook(self._visit) for module in self.model.modules()]

    @property
    def attached(self) -> bool:
        """Whether the step that runs, or comes next, is watched."""
        return self._before is not None

    def broken(self) -> list[str]:
        """The names of the parameters that hold a NaN or an infinity."""
        return [name for name, p in self.parameters.items() if not np.isfinite(p.detach().numpy()).all()]

    def detach(self) -> None:
        """Takes the hooks off and forgets the weights of before."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._before, self._seen = [], None, []

    def read(self, broken: bool = False) -> dict[str, Any]:
        """What the step did: grad_norm, parameters and layers as in `Recording.samples`.

        broken: the loss was no number, so that there may have been no backward pass. Otherwise RuntimeError if no parameter has a
        gradient: the step was read before backward() or after zero_grad().
        """
        if self._before is None:
            raise RuntimeError("Probe.read: attach() comes before the step that is read")
        if not broken and not any(p.grad is not None for p in self.parameters.values()):
            raise RuntimeError(
                "TrainingMonitor.step: no parameter has a gradient; call it after loss.backward() and optimizer.step(), and before "
                "the next zero_grad()"
            )
        with np.errstate(all="ignore"):  # a run that has gone to infinity is a finding, not a warning
            parameters, total = self._parameters()
        found = {"grad_norm": total, "parameters": parameters, "layers": self._found}
        self.detach()
        return found

    def _parameters(self) -> tuple[dict[str, dict[str, float]], float]:
        """By parameter the norms of its values before, of its gradient and of its update; and the norm of all gradients."""
        assert self._before is not None
        parameters, square = {}, 0.0
        for name, parameter in self.parameters.items():
            before, now = self._before[name], parameter.detach().numpy()
            norm = _norm(before)
            gradient = None if parameter.grad is None else _norm(parameter.grad.detach().numpy())
            square += (gradient or 0.0) ** 2
            parameters[name] = {"norm": norm, "ratio": _norm(now - before) / norm if norm > 0 else 0.0}
            if gradient is not None:
                parameters[name]["grad_norm"] = gradient
        return parameters, math.sqrt(square)

    # Activations ------------------------------------------------------------------------------------------------------

    def _visit(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if not tg.is_grad_enabled():
            return
        entered = time.perf_counter()
        name = self.names.get(id(module)) or type(module).__name__
        for value in arguments:
            self._functional(value, f"before {name}")
        if next(module.children(), None) is None:
            output = output[0] if isinstance(output, tuple) and output else output  # a recurrent layer's sequence comes first
            if isinstance(output, tg.Tensor) and output.is_floating_point() and type(module).__name__ not in _UNINTERESTING:
                self._measure(output, name, type(module).__name__)
        else:
            self._functional(output, f"end of {name}")
        self.spent += time.perf_counter() - entered

    def _functional(self, value: Any, where: str) -> None:
        """Measures a tensor that a rectifier, sigmoid or tanh called as a function has just made."""
        if isinstance(value, tg.Tensor) and value.grad_fn is not None:
            operator = value.grad_fn.name()
            if operator in _RECTIFIERS + _SIGMOIDS + _TANHS and not any(seen is value.grad_fn for seen in self._seen):
                self._measure(value, f"{operator} {where}", operator)

    def _measure(self, output: tg.Tensor, name: str, kind: str) -> None:
        calls = self._calls[name] = self._calls.get(name, 0) + 1
        if calls > _MAXIMUM_CALLS:
            return
        if calls > 1:
            name = f"{name} (call {calls})"
        if output.grad_fn is not None:
            self._seen.append(output.grad_fn)
        values = output.detach().numpy()
        if not values.size:
            return
        self.layers.setdefault(name, {"kind": kind, "shape": list(values.shape[1:])})
        with np.errstate(all="ignore"):
            found = self._found[name] = self._describe(values, name, kind.lower())
        if output.requires_grad:

            def gradient(upstream: tg.Tensor) -> None:
                entered = time.perf_counter()
                with np.errstate(all="ignore"):
                    found.update(self._gradient(upstream.detach().numpy()))
                self.spent += time.perf_counter() - entered

            output.register_hook(gradient)

    def _describe(self, values: np.ndarray, name: str, kind: str) -> dict[str, Any]:
        chosen = self._choose(values)
        found: dict[str, Any] = {"mean": float(chosen.mean()), "std": float(chosen.std())}
        low, high = float(chosen.min()), float(chosen.max())
        if math.isfinite(low) and math.isfinite(high):
            found["hist"] = [low, high, _counts(chosen, low, high, BINS)]
        if kind in _RECTIFIERS:
            found |= self._dead(values, name)
        elif kind in _SIGMOIDS:
            found["saturated"] = float((np.abs(2 * chosen - 1) > SATURATION).mean())
        elif kind in _TANHS:
            found["saturated"] = float((np.abs(chosen) > SATURATION).mean())
        return found

    def _dead(self, values: np.ndarray, name: str) -> dict[str, float]:
        axes = tuple(axis for axis in range(values.ndim) if axis != 1)
        silent = ~(values > 0).any(axis=axes) if values.ndim > 1 else ~(values > 0)
        idle = self.idle.get(name)
        self.idle[name] = idle = np.where(silent, 1 if idle is None or idle.shape != silent.shape else idle + 1, 0)
        return {"silent": float(silent.mean()), "dead": float((idle >= DEAD_AFTER).mean())}

    def _gradient(self, values: np.ndarray) -> dict[str, Any]:
        chosen = np.abs(self._choose(values))
        positive = chosen[(chosen > 0) & np.isfinite(chosen)]
        counts = _counts(np.log10(positive), *DECADES, DECADE_BINS)
        root = _norm(chosen) / math.sqrt(chosen.size)
        return {"grad_rms": root, "grad_hist": counts, "grad_zero": float((chosen == 0).mean())}

    def _choose(self, values: np.ndarray) -> np.ndarray:
        """The values, or SAMPLED of them at places that depend on their number alone."""
        flat = values.reshape(-1)
        if flat.size <= SAMPLED:
            return flat
        if flat.size not in self._choices:
            self._choices[flat.size] = np.sort(np.random.default_rng(0).integers(0, flat.size, SAMPLED))
        return flat[self._choices[flat.size]]


def _norm(values: np.ndarray) -> float:
    """The Euclidean norm; NaN if some value is no number. No BLAS: its threads and those of our kernels would wait for each other."""
    total = float(np.square(values).sum(dtype=np.float64))
    if math.isinf(total):
        total = float(np.square(values, dtype=np.float64).sum())
    return math.sqrt(total)


def _counts(values: np.ndarray, low: float, high: float, bins: int) -> list[int]:
    """How many values lie in each of `bins` equal parts of low..high; what lies outside counts into the outermost part."""
    scale = bins / (high - low) if high > low else 0.0
    places = np.clip((values - low) * scale, 0, bins - 1).astype(np.int64)
    counted: list[int] = np.bincount(places, minlength=bins).tolist()
    return counted
