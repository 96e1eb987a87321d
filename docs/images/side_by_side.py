"""The pictures of docs/pictures.md: the same two networks drawn by torchviz and by tinygrad_cv, and how large ResNet-152 gets in both.

    pip install torch torchviz setuptools      # beside this package; torchviz 0.0.3 imports distutils, which setuptools has
    python docs/images/side_by_side.py         # needs `dot`, which torchviz draws with

Writes mlp-torchviz.svg, mlp.svg, block-torchviz.svg and block.svg beside itself, and prints the numbers of nodes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torchviz

import tinygrad_cv as tg
from tinygrad_cv import models, nn

HERE = Path(__file__).parent


class Residual(torch.nn.Module):
    """relu(layers(x) + shortcut(x)): the blocks of ResNet-18 and ResNet-152 as one class, with the operators of torchvision's."""

    def __init__(self, widths: tuple[int, ...], kernels: tuple[int, ...], stride: int = 1) -> None:
        super().__init__()
        shrinking = kernels.index(3)
        for i, (inputs, outputs, kernel) in enumerate(zip(widths, widths[1:], kernels, strict=False)):
            step = stride if i == shrinking else 1
            self.add_module(f"conv{i + 1}", torch.nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i + 1}", torch.nn.BatchNorm2d(outputs))
        self.relu = torch.nn.ReLU(inplace=True)
        self.count = len(kernels)
        self.downsample = None
        if stride != 1 or widths[0] != widths[-1]:
            shortcut = torch.nn.Conv2d(widths[0], widths[-1], 1, stride, bias=False)
            self.downsample = torch.nn.Sequential(shortcut, torch.nn.BatchNorm2d(widths[-1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x
        for i in range(1, self.count + 1):
            out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
            out = self.relu(out) if i < self.count else out
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def resnet152() -> torch.nn.Module:
    """ResNet-152 of torchvision: He et al., arXiv:1512.03385, table 1."""
    blocks, width = [], 64
    for stage, length in enumerate((3, 8, 36, 3)):
        for i in range(length):
            planes = 64 * 2**stage
            blocks.append(Residual((width, planes, planes, 4 * planes), (1, 3, 1), 2 if i == 0 and stage else 1))
            width = 4 * planes
    first = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    start = [first, torch.nn.BatchNorm2d(64), torch.nn.ReLU(inplace=True), torch.nn.MaxPool2d(3, 2, 1)]
    end = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(2048, 1000)]
    return torch.nn.Sequential(*start, *blocks, *end)


def mlp() -> tuple[Any, tg.viz.Picture]:
    """Two linear layers and a ReLU on two examples, with the loss, from the same weights: torchviz's picture and ours."""
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    model.load_state_dict({name: tg.tensor(weight.numpy()) for name, weight in theirs.state_dict().items()})
    images, labels = torch.randn(2, 4), torch.tensor([0, 1])
    their_loss = torch.nn.functional.cross_entropy(theirs(images), labels)
    x, target = tg.tensor(images.numpy()), tg.tensor(labels.numpy())
    loss = nn.functional.cross_entropy(model(x), target)
    assert abs(loss.item() - their_loss.item()) < 1e-6
    return torchviz.make_dot(their_loss, params=dict(theirs.named_parameters())), tg.viz.draw(loss, values=True, grads=True)


def block() -> tuple[Any, tg.viz.Picture]:
    """The first block of ResNet-18's second stage, where the image is halved."""
    theirs = Residual((64, 128, 128), (3, 3), 2)
    shortcut = nn.Sequential(nn.Conv2d(64, 128, 1, 2, bias=False), nn.BatchNorm2d(128))
    ours = models.BasicBlock(64, 128, 2, shortcut)
    out = theirs(torch.randn(1, 64, 56, 56))
    return torchviz.make_dot(out, params=dict(theirs.named_parameters())), tg.viz.draw(ours, tg.randn(1, 64, 56, 56))


def nodes_of(dot: Any) -> int:
    """Nodes in a graph of torchviz's."""
    return sum("->" not in line and "[label=" in line for line in dot.body)


def main() -> int:
    """Makes the four pictures and prints the counts."""
    torch.manual_seed(0)
    for name, (theirs, ours) in {"mlp": mlp(), "block": block()}.items():
        (HERE / f"{name}-torchviz.svg").write_bytes(theirs.pipe(format="svg"))
        ours.save(HERE / f"{name}.svg")
        print(f"{name}: torchviz {nodes_of(theirs)} nodes, tinygrad_cv {ours.node_count}")
    theirs = torchviz.make_dot(resnet152()(torch.randn(2, 3, 64, 64)))
    model, images = models.resnet152(), tg.randn(2, 3, 64, 64)
    ours = [tg.viz.draw(model, images, depth=depth).node_count for depth in (1, 2, None)]
    print(
        f"ResNet-152: torchviz {nodes_of(theirs)} nodes, tinygrad_cv {ours[0]} (depth 1), {ours[1]} (depth 2), {ours[2]} (default)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
