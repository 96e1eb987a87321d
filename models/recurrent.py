"""A recurrent classifier of sequences, which reads an image row by row."""

from __future__ import annotations

from tinygrad_cv import Tensor, nn

from ._registry import register


class LSTMClassifier(nn.Module):
    """An LSTM over a sequence and a linear layer on its last output: (N, T, input_size) -> (N, num_classes) scores.

    Images (N, C, H, W) are read as H steps of C * W values, so MNIST (N, 1, 28, 28) is 28 steps of 28. bidirectional: the last
    outputs of both directions, side by side. dropout: between layers, and before the linear layer. Parameters start as PyTorch's.
    Parameters of one layer: 4 H (input_size + H + 2), and H * num_classes + num_classes for the linear one; 82,186 for MNIST.

    Source: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 1997; images as sequences of their pixels:
    Q. Le, N. Jaitly, G. Hinton, arXiv:1504.00941, section 4.2.
    """

    def __init__(
        self,
        input_size: int = 28,
        hidden_size: int = 128,
        num_layers: int = 1,
        num_classes: int = 10,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True, dropout=between, bidirectional=bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden_size * (2 if bidirectional else 1), num_classes)
        self.directions = 2 if bidirectional else 1

    def forward(self, input: Tensor) -> Tensor:
        """(N, T, input_size) or (N, C, H, W) with C * W = input_size -> (N, num_classes)."""
        if input.ndim not in (3, 4):
            raise ValueError(
                f"LSTMClassifier: expected (N, T, {self.lstm.input_size}) or (N, C, H, W), got shape {input.shape}"
            )
        sequence = input.transpose(1, 2).flatten(2) if input.ndim == 4 else input
        _, (hidden, _) = self.lstm(sequence)
        last = hidden[-self.directions :].transpose(0, 1).flatten(1)
        return self.fc(self.dropout(last))


@register(
    "lstm",
    input_shape=(1, 28, 28),
    source="Hochreiter & Schmidhuber 1997",
    epochs=5,
    batch_size=64,
    optimizer="adam",
    lr=2e-3,
    schedule="cosine",
)
def lstm(
    input_size: int = 28,
    hidden_size: int = 128,
    num_layers: int = 1,
    num_classes: int = 10,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> LSTMClassifier:
    """An LSTM of 128 units that reads rows of 28 pixels, 82,186 parameters; see `LSTMClassifier`."""
    return LSTMClassifier(input_size, hidden_size, num_layers, num_classes, bidirectional, dropout)
