"""The classifiers a course begins with: linear softmax, linear SVM, a two-layer network, LeNet-5."""

from __future__ import annotations

from itertools import pairwise

from tinygrad_cv import Tensor, nn

from ._registry import register


class MLP(nn.Module):
    """A fully connected network: (N, C, H, W) or (N, in_features) -> (N, num_classes) scores, with ReLU between layers."""

    def __init__(self, in_features: int = 784, hidden: tuple[int, ...] = (128,), num_classes: int = 10) -> None:
        super().__init__()
        sizes = [in_features, *hidden]
        self.flatten = nn.Flatten()
        self.hidden = nn.Sequential()
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            self.hidden.add_module(f"fc{i + 1}", nn.Linear(n_in, n_out))
            self.hidden.add_module(f"relu{i + 1}", nn.ReLU())
        self.output = nn.Linear(sizes[-1], num_classes)

    def forward(self, input: Tensor) -> Tensor:
        return self.output(self.hidden(self.flatten(input)))


class LeNet5(nn.Module):
    """LeNet-5: two convolutions with pooling, three linear layers; (N, 1, 28, 28) -> (N, num_classes) scores.

    As in the paper, the first convolution sees the digit on a 32 x 32 field (here by padding 2) and the layers have 6, 16, 120, 84
    and 10 outputs. activation, pool: "relu" and "max", which train faster, or the paper's "tanh" and "avg". The paper's partial
    connection table, trainable pooling coefficients and radial basis outputs are left out, as everywhere today.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 1998,
    section II.B.
    """

    def __init__(self, num_classes: int = 10, activation: str = "relu", pool: str = "max") -> None:
        super().__init__()
        activations = {"relu": nn.ReLU, "tanh": nn.Tanh}
        pools = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
        if activation not in activations or pool not in pools:
            raise ValueError(
                f"LeNet5: activation must be one of {list(activations)} and pool one of {list(pools)}, got {activation!r}, {pool!r}"
            )
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5, padding=2),
            activations[activation](),
            pools[pool](2),
            nn.Conv2d(6, 16, kernel_size=5),
            activations[activation](),
            pools[pool](2),
        )
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120),
            activations[activation](),
            nn.Linear(120, 84),
            activations[activation](),
            nn.Linear(84, num_classes),
        )

    def forward(self, input: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.features(input)))


@register(
    "lenet5",
    input_shape=(1, 28, 28),
    source="LeCun et al. 1998",
    epochs=8,
    batch_size=64,
    optimizer="adam",
    lr=2e-3,
    schedule="cosine",
)
def lenet5(num_classes: int = 10, activation: str = "relu", pool: str = "max") -> LeNet5:
    """LeNet-5; see `LeNet5`."""
    return LeNet5(num_classes, activation, pool)


@register("mlp", input_shape=(1, 28, 28), source="CS231n, neural networks", epochs=5, batch_size=32, optimizer="adam", lr=1e-3)
def mlp(in_features: int = 784, hidden: tuple[int, ...] = (128,), num_classes: int = 10) -> MLP:
    """A two-layer network with 128 hidden units; see `MLP`."""
    return MLP(in_features, tuple(hidden), num_classes)


@register(
    "linear_softmax",
    input_shape=(1, 28, 28),
    source="CS231n, linear classification",
    epochs=3,
    batch_size=64,
    optimizer="sgd",
    lr=0.1,
)
def linear_softmax(in_features: int = 784, num_classes: int = 10) -> nn.Sequential:
    """Scores W x + b, trained with softmax cross-entropy."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, num_classes))


@register(
    "linear_svm", input_shape=(1, 28, 28), source="CS231n, linear classification", loss="multi_margin_loss",
    epochs=3, batch_size=64, optimizer="sgd", lr=0.05, weight_decay=1e-4,
)  # fmt: skip
def linear_svm(in_features: int = 784, num_classes: int = 10) -> nn.Sequential:
    """Scores W x + b, trained with the multiclass hinge loss (Weston-Watkins) and an L2 penalty on the weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, num_classes))
