"""Recurrent layers and cells, with PyTorch's equations, parameter names and layouts.

All weights and biases start uniform on +-1/sqrt(hidden_size). A gate's rows stand in the order of the equations.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

from .._tensor import Tensor
from ..creation import empty, zeros
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

States = tuple[Tensor, ...]


def rnn_update(gates: Tensor, recurrent: Tensor, nonlinearity: str) -> Tensor:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or with relu."""
    total = gates + recurrent  # type: ignore[operator]
    return F.tanh(total) if nonlinearity == "tanh" else F.relu(total)


def lstm_update(gates: Tensor, recurrent: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """(i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh; c' = sig(f) c + sig(i) tanh(g); h' = sig(o) tanh(c')."""
    i, f, g, o = (gates + recurrent).chunk(4, -1)  # type: ignore[operator]
    cell = F.sigmoid(f) * cell + F.sigmoid(i) * F.tanh(g)
    return F.sigmoid(o) * F.tanh(cell), cell


def gru_update(gates: Tensor, recurrent: Tensor, hidden: Tensor) -> Tensor:
    """r, z = sig(W_ih x + b_ih + W_hh h + b_hh); n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1 - z) n + z h."""
    (input_r, input_z, input_n), (hidden_r, hidden_z, hidden_n) = gates.chunk(3, -1), recurrent.chunk(3, -1)
    reset = F.sigmoid(input_r + hidden_r)  # type: ignore[operator]
    keep = F.sigmoid(input_z + hidden_z)  # type: ignore[operator]
    new = F.tanh(input_n + reset * hidden_n)
    return new + keep * (hidden - new)  # type: ignore[operator, no-any-return]


class _Recurrent(Module):
    """Parameters, layouts and the loop over layers, directions and time."""

    _gates: ClassVar[int]
    _state_count: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if hidden_size < 1 or num_layers < 1:
            raise ValueError(f"{name}: hidden_size and num_layers must be positive, got {hidden_size} and {num_layers}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must lie in [0, 1], got {dropout}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"{name}: dropout={dropout} acts between layers, and there is only one layer", UserWarning, stacklevel=3
            )
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"{name}: proj_size must be from 0 to below hidden_size={hidden_size}, got {proj_size}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        directions = 2 if bidirectional else 1
        rows, outputs = self._gates * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else outputs * directions
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, outputs)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes |= {"weight_hr": (proj_size, hidden_size)}
                for kind, shape in shapes.items():
                    self.register_parameter(f"{kind}_{suffix}", Parameter(empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        return (f"l{layer}", f"l{layer}_reverse") if self.bidirectional else (f"l{layer}",)

    def reset_parameters(self) -> None:
        """Draws the initial values again."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _update(self, gates: Tensor, recurrent: Tensor, state: States) -> States:
        raise NotImplementedError

    def _direction(self, sequence: Tensor, state: States, suffix: str, reverse: bool) -> tuple[list[Tensor], States]:
        """One layer in one direction: (T, N, in) -> T outputs (N, out), and the last state."""
        own = self._parameters
        weight, bias, projection = own[f"weight_hh_{suffix}"], own.get(f"bias_hh_{suffix}"), own.get(f"weight_hr_{suffix}")
        inputs = F.linear(sequence, own[f"weight_ih_{suffix}"], own.get(f"bias_ih_{suffix}")).unbind(0)
        outputs: list[Tensor] = []
        for gates in reversed(inputs) if reverse else inputs:
            state = self._update(gates, F.linear(state[0], weight, bias), state)
            if projection is not None:
                state = (F.linear(state[0], projection), *state[1:])
            outputs.append(state[0])
        return (outputs[::-1] if reverse else outputs), state

    def _initial(self, given: Any, batch: int, batched: bool, dtype: Any) -> States:
        """The initial states (layers * directions, N, size), zeros unless given. ValueError with the right shape otherwise."""
        name = type(self).__name__
        count = self.num_layers * (2 if self.bidirectional else 1)
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: self._state_count]
        if given is None:
            return tuple(zeros(count, batch, size, dtype=dtype) for size in sizes)
        states = given if self._state_count > 1 else (given,)
        if not isinstance(states, (tuple, list)) or len(states) != self._state_count:
            raise TypeError(f"{name}: the initial state must be a tuple of {self._state_count} tensors (h_0, c_0)")
        result = []
        for label, state, size in zip(("h_0", "c_0"), states, sizes, strict=False):
            expected = (count, batch, size) if batched else (count, size)
            if state.shape != expected:
                raise ValueError(f"{name}: {label} has shape {state.shape}, expected {expected}")
            result.append(state if batched else state.unsqueeze(1))
        return tuple(result)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """(T, N, input_size), or (N, T, input_size) with batch_first, or (T, input_size) -> (outputs, last states).

        hx: the initial states, zeros if left out; (layers * directions, N, hidden_size), for an LSTM a pair of them.
        """
        name = type(self).__name__
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            layout = "(N, T, input_size)" if self.batch_first else "(T, N, input_size)"
            raise ValueError(
                f"{name}: expected {layout} or (T, input_size) with input_size {self.input_size}, got shape {input.shape}"
            )
        batched = input.ndim == 3
        sequence: Any = input if batched else input.unsqueeze(1)  # type: ignore[attr-defined]
        if batched and self.batch_first:
            sequence = sequence.transpose(0, 1)
        if sequence.shape[0] == 0:
            raise ValueError(f"{name}: expected at least one time step, got input of shape {input.shape}")
        initial = [s.unbind(0) for s in self._initial(hx, sequence.shape[1], batched, input.dtype)]
        last: list[States] = []
        for layer in range(self.num_layers):
            directions = []
            for reverse, suffix in enumerate(self._suffixes(layer)):
                outputs, state = self._direction(sequence, tuple(s[len(last)] for s in initial), suffix, bool(reverse))
                directions.append(F.stack(outputs, 0))
                last.append(state)
            sequence = F.cat(directions, -1) if len(directions) > 1 else directions[0]
            if self.dropout and layer < self.num_layers - 1:
                sequence = F.dropout(sequence, self.dropout, self.training)
        final = tuple(F.stack([state[i] for state in last], 0) for i in range(self._state_count))
        if not batched:
            sequence, final = sequence.squeeze(1), tuple(f.squeeze(1) for f in final)
        elif self.batch_first:
            sequence = sequence.transpose(0, 1)
        return sequence, final if self._state_count > 1 else final[0]

    def extra_repr(self) -> str:
        """The settings that differ from their defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        for setting, default in (("bias", True), ("batch_first", False), ("dropout", 0), ("bidirectional", False)):
            if getattr(self, setting) != default:
                text += f", {setting}={getattr(self, setting)}"
        return text


def _check_nonlinearity(name: str, nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{name}: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
    return nonlinearity


class RNN(_Recurrent):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), or with relu, in `num_layers` layers. Elman, Cognitive Science 1990.

    Parameters of layer k: weight_ih_l{k} (H, in), weight_hh_l{k} (H, H), bias_ih_l{k}, bias_hh_l{k} (H); with `bidirectional`
    the same again with the suffix _reverse. Returns outputs (T, N, directions * H) and the last state (layers * directions, N, H).
    """

    _gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        nonlinearity = _check_nonlinearity("RNN", nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)
        self.nonlinearity = nonlinearity

    def _update(self, gates: Tensor, recurrent: Tensor, state: States) -> States:
        return (rnn_update(gates, recurrent, self.nonlinearity),)


class LSTM(_Recurrent):
    """c_t = sig(f) c_(t-1) + sig(i) tanh(g), h_t = sig(o) tanh(c_t), in `num_layers` layers. Hochreiter & Schmidhuber 1997.

    Parameters as RNN, with 4H rows in the order i, f, g, o; proj_size > 0 multiplies h_t by weight_hr_l{k} (proj_size, H).
    Returns outputs (T, N, directions * H) and the pair (h_n, c_n), each (layers * directions, N, H).
    """

    _gates = 4
    _state_count = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        )

    def _update(self, gates: Tensor, recurrent: Tensor, state: States) -> States:
        return lstm_update(gates, recurrent, state[1])


class GRU(_Recurrent):
    """h_t = (1 - z) n + z h_(t-1), in `num_layers` layers; z, n and r as in `gru_update`. Cho et al., arXiv:1406.1078.

    Parameters as RNN, with 3H rows in the order r, z, n. The reset gate acts after the product with W_hn, as in PyTorch and cuDNN.
    """

    _gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)

    def _update(self, gates: Tensor, recurrent: Tensor, state: States) -> States:
        return (gru_update(gates, recurrent, state[0]),)


class _Cell(Module):
    """One step of a recurrent layer: parameters weight_ih, weight_hh, bias_ih, bias_hh."""

    _gates: ClassVar[int]

    def __init__(self, input_size: int, hidden_size: int, bias: bool, device: Any, dtype: Any) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = self._gates * hidden_size
        self.weight_ih = Parameter(empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(empty(rows, hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias_ih", Parameter(empty(rows, device=device, dtype=dtype)) if bias else None)
        self.register_parameter("bias_hh", Parameter(empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the initial values again."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _state(self, input: Tensor, given: Tensor | None, label: str) -> Tensor:
        name = type(self).__name__
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: expected (N, {self.input_size}) or ({self.input_size},), got input of shape {input.shape}"
            )
        expected = (*input.shape[:-1], self.hidden_size)
        if given is None:
            return zeros(expected, dtype=input.dtype)
        if given.shape != expected:
            raise ValueError(f"{name}: {label} has shape {given.shape}, expected {expected}")
        return given

    def _products(self, input: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(input, self.weight_ih, self.bias_ih), F.linear(hidden, self.weight_hh, self.bias_hh)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of `RNN`: input (N, input_size) or (input_size), state h (N, H) or (H) -> h'."""

    _gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = _check_nonlinearity("RNNCell", nonlinearity)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state; `hx` starts as zeros."""
        hidden = self._state(input, hx, "hx")
        return rnn_update(*self._products(input, hidden), self.nonlinearity)


class LSTMCell(_Cell):
    """One step of `LSTM`: input (N, input_size) or (input_size), states (h, c), each (N, H) or (H) -> (h', c')."""

    _gates = 4

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The next states; `hx` starts as zeros."""
        given = (None, None) if hx is None else hx
        hidden, cell = self._state(input, given[0], "h"), self._state(input, given[1], "c")
        return lstm_update(*self._products(input, hidden), cell)


class GRUCell(_Cell):
    """One step of `GRU`: input (N, input_size) or (input_size), state h (N, H) or (H) -> h'."""

    _gates = 3

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state; `hx` starts as zeros."""
        hidden = self._state(input, hx, "hx")
        return gru_update(*self._products(input, hidden), hidden)
