"""Architectures, built from the public API alone. `create(name, **options)` makes one by name, `list_models()` names them all.

    classic       linear softmax, linear SVM, a two-layer network, LeNet-5      alexnet    AlexNet
    resnet        ResNet-18, 34, 50, 101, 152 for 224 x 224                     vgg        VGG-11, 13, 16, 19
    resnet_cifar  ResNet-20, 32, 44, 56, 110 for 32 x 32                        mobilenet  MobileNet, versions 1 and 2
    recurrent     an LSTM over sequences, or over the rows of an image

Where torchvision has the architecture, options and names of parameters are torchvision's, so that its weights load. Modules here
import `tinygrad_cv` (nn and operators) and nothing private.
"""

from __future__ import annotations

from typing import Any

from ._registry import ModelInfo, create, info, list_models, register
from .alexnet import AlexNet, alexnet
from .classic import MLP, LeNet5, lenet5, linear_softmax, linear_svm, mlp
from .mobilenet import DepthwiseSeparable, InvertedResidual, MobileNetV1, MobileNetV2, mobilenet_v1, mobilenet_v2
from .recurrent import LSTMClassifier, lstm
from .resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
from .resnet_cifar import CifarResNet, PaddedIdentity, resnet20, resnet32, resnet44, resnet56, resnet110
from .vgg import VGG, CifarVGG, vgg11, vgg11_bn, vgg11_cifar, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn

__all__ = [
    "MLP", "VGG", "AlexNet", "BasicBlock", "Bottleneck", "CifarResNet", "CifarVGG", "DepthwiseSeparable", "InvertedResidual",
    "LSTMClassifier", "LeNet5", "MobileNetV1", "MobileNetV2", "ModelInfo", "PaddedIdentity", "ResNet", "alexnet", "create", "info",
    "lenet5", "linear_softmax", "linear_svm", "list_models", "lstm", "mlp", "mobilenet_v1", "mobilenet_v2", "register", "resnet18",
    "resnet20", "resnet32", "resnet34", "resnet44", "resnet50", "resnet56", "resnet101", "resnet110", "resnet152", "vgg11",
    "vgg11_bn", "vgg11_cifar", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
]  # fmt: skip


def __dir__() -> list[Any]:
    return sorted(__all__)
