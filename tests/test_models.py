"""Architectures: the published parameter counts, shapes, initial values, torchvision's names, and equality with PyTorch."""

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import models, nn
from tinygrad_cv.nn import functional as F

# Published by torchvision for its networks. The rest by hand:
# ResNet-20: 432 + 32 for the first convolution; 3 blocks of 2 * (16 * 16 * 9 + 32) = 4672 each; then, where channels double,
#   16 * 32 * 9 + 64 + 32 * 32 * 9 + 64 = 13,952 and 2 * (2 * (32 * 32 * 9 + 64)) = 37,120; 32 * 64 * 9 + 128 + 64 * 64 * 9 + 128
#   = 55,552 and 2 * (2 * (64 * 64 * 9 + 128)) = 147,968; 650 for the last layer: 269,722. Each further block a stage (depth + 6)
#   adds 4,672 + 18,560 + 73,984 = 97,216. Table 6 of the paper says 0.27, 0.46, 0.66, 0.85 and 1.7 million.
# VGG-11 for CIFAR: 9,220,480 in torchvision's features, 5,130 in the last layer.
# MobileNet: 928 for the first convolution, sum of 11 in + in * out + 2 out over the blocks 3,206,048, and 1,025,000.
# LSTM: 4 * 128 * (28 + 128 + 2) = 80,896 and 1290.
COUNTS = {
    "alexnet": 61_100_840,
    "lstm": 82_186,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "resnet18": 11_689_512,
    "resnet20": 269_722,
    "resnet32": 269_722 + 2 * 97_216,
    "resnet34": 21_797_672,
    "resnet44": 269_722 + 4 * 97_216,
    "resnet50": 25_557_032,
    "resnet56": 269_722 + 6 * 97_216,
    "resnet101": 44_549_160,
    "resnet110": 269_722 + 15 * 97_216,
    "resnet152": 60_192_808,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg11_cifar": 9_225_610,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}


@pytest.fixture
def unfilled(monkeypatch):
    """Weights stay as the memory is: nothing that only counts and names them need draw a hundred million numbers."""
    monkeypatch.setattr("tinygrad_cv.nn.init._fill", lambda tensor, draw, generator: tensor)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_published_ones(name, unfilled):
    model = models.create(name)
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
    shown = models.info(name).factory.__doc__
    assert f"{COUNTS[name]:,}" in shown + type(model).__doc__


def test_every_model_is_counted_somewhere():
    assert set(models.list_models()) == {*COUNTS, "lenet5", "mlp", "linear_softmax", "linear_svm"}


def test_other_sizes_have_the_counts_of_their_formulas(unfilled):
    def count(model):
        return sum(p.numel() for p in model.parameters())

    assert count(models.resnet20(shortcut="projection")) == 269_722 + 16 * 32 + 64 + 32 * 64 + 128  # 272,474
    assert count(models.resnet20(num_classes=100)) == 269_722 + 65 * 90
    assert count(models.resnet50(groups=32, width_per_group=4)) == 25_028_904  # torchvision's resnext50_32x4d
    assert count(models.resnet50(width_per_group=128)) == 68_883_240  # torchvision's wide_resnet50_2
    assert count(models.mobilenet_v2(width_mult=0.5)) == 1_968_680
    assert count(models.vgg11_cifar(batch_norm=True)) == 9_225_610 + 2 * (64 + 128 + 2 * 256 + 4 * 512)
    assert count(models.lstm(28, 16, num_layers=2, bidirectional=True)) == (
        2 * 4 * 16 * (28 + 16 + 2) + 2 * 4 * 16 * (32 + 16 + 2) + 330
    )
    assert count(models.DepthwiseSeparable(8, 12)) == 9 * 8 + 8 * 12 + 2 * 8 + 2 * 12


SMALL = {  # name: (options, input shape)
    "resnet18": ({"num_classes": 7}, (2, 3, 40, 33)),
    "resnet50": ({"num_classes": 7, "zero_init_residual": True}, (2, 3, 32, 32)),
    "resnet20": ({}, (2, 3, 32, 32)),
    "vgg11_cifar": ({"batch_norm": True}, (2, 3, 32, 32)),
    "mobilenet_v1": ({"num_classes": 5, "width_mult": 0.25}, (2, 3, 64, 64)),
    "mobilenet_v2": ({"num_classes": 5, "width_mult": 0.25}, (2, 3, 64, 64)),
    "lstm": ({"hidden_size": 16}, (2, 1, 28, 28)),
}


@pytest.mark.parametrize("name", SMALL)
def test_models_train_and_evaluate(name):
    options, shape = SMALL[name]
    model = models.create(name, **options)
    images, labels = tg.randn(*shape), tg.tensor([1, 3])
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None and p.grad.shape == p.shape and np.isfinite(p.grad.detach().numpy()).all(), parameter
    optimizer = tg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    optimizer.step()
    model.eval()
    with tg.no_grad():
        first, alone = model(images), model(images[:1])
    assert first.shape == (2, options.get("num_classes", 10))
    assert np.allclose(
        first.detach().numpy()[:1], alone.detach().numpy(), rtol=1e-3, atol=1e-4
    )  # in evaluation images do not see one another


@pytest.mark.parametrize("name, channels", [("alexnet", (256, 6, 6)), ("vgg11", (512, 7, 7)), ("mobilenet_v2", (1280, 7, 7))])
def test_features_of_full_size_images(name, channels):
    """They fit the classifiers, which would take seconds to fill."""
    features = models.vgg.make_features(11) if name == "vgg11" else models.create(name, num_classes=3).features
    with tg.no_grad():
        assert features(tg.zeros(1, 3, 224, 224)).shape == (1, *channels)


def test_initial_values_are_those_of_the_papers():
    model = models.resnet18(zero_init_residual=True)
    deviation = np.sqrt(2 / (512 * 9))
    assert model.layer4[1].conv2.weight.detach().numpy().std() == pytest.approx(deviation, rel=0.01)
    assert not model.layer1[0].bn2.weight.detach().numpy().any() and (model.layer1[0].bn1.weight.detach().numpy() == 1).all()
    small = models.resnet20()
    assert (
        small.fc.weight.detach().numpy().std() == pytest.approx(np.sqrt(2 / 64), rel=0.1)
        and not small.fc.bias.detach().numpy().any()
    )
    mobile = models.mobilenet_v2(num_classes=100)
    assert mobile.classifier[1].weight.detach().numpy().std() == pytest.approx(0.01, rel=0.02)
    vgg = models.vgg11_cifar()
    assert vgg.features[18].weight.detach().numpy().std() == pytest.approx(np.sqrt(2 / (512 * 9)), rel=0.01)
    assert not vgg.features[18].bias.detach().numpy().any()
    block = models.resnet50(num_classes=2, zero_init_residual=True).layer2[1].eval()
    x = tg.randn(1, 512, 4, 4).abs()
    assert np.array_equal(block(x).detach().numpy(), x.detach().numpy())  # a block that starts as its shortcut


def test_the_padded_identity_has_zeros_on_both_sides_and_passes_gradients():
    shortcut = models.PaddedIdentity(2, 6, 2)
    x = tg.randn(1, 2, 5, 4, requires_grad=True)
    out = shortcut(x)
    assert out.shape == (1, 6, 3, 2) and np.array_equal(out.detach().numpy()[:, 2:4], x.detach().numpy()[:, :, ::2, ::2])
    assert not out.detach().numpy()[:, :2].any() and not out.detach().numpy()[:, 4:].any()
    upstream = tg.randn(1, 6, 3, 2)
    out.backward(upstream)
    expected = np.zeros((1, 2, 5, 4), np.float32)
    expected[:, :, ::2, ::2] = upstream.detach().numpy()[:, 2:4]
    assert np.array_equal(x.grad.detach().numpy(), expected)


def test_an_image_is_read_row_by_row():
    model = models.lstm(input_size=6, hidden_size=5)
    images = tg.randn(4, 2, 7, 3)
    rows = tg.tensor(images.detach().numpy().transpose(0, 2, 1, 3).reshape(4, 7, 6).copy())
    assert np.array_equal(model(images).detach().numpy(), model(rows).detach().numpy())
    both = models.lstm(input_size=6, hidden_size=5, num_layers=2, bidirectional=True).eval()
    outputs, _ = both.lstm(rows)
    last = np.concatenate([outputs.detach().numpy()[:, -1, :5], outputs.detach().numpy()[:, 0, 5:]], 1)
    assert np.allclose(
        both(rows).detach().numpy(), last @ both.fc.weight.detach().numpy().T + both.fc.bias.detach().numpy(), atol=1e-6
    )


MISTAKES = [
    (lambda: models.CifarResNet(21), "depth must be 6n [+] 2"),
    (lambda: models.resnet20(shortcut="B"), "shortcut must be one of identity, projection"),
    (lambda: models.CifarVGG(12), "depth must be one of 11, 13, 16, 19"),
    (lambda: models.ResNet(models.BasicBlock, [1, 1]), "layers must be the numbers of blocks of 4 stages"),
    (lambda: models.resnet18(replace_stride_with_dilation=(True,)), "3 booleans"),
    (lambda: models.resnet18(groups=2), "defined for groups=1"),
    (lambda: models.InvertedResidual(8, 8, 3, 6), "stride must be 1 or 2"),
    (lambda: models.mobilenet_v2(inverted_residual_setting=[(1, 2)]), "rows [(]expansion"),
    (lambda: models.PaddedIdentity(4, 2, 1), "cannot pad 4 channels to 2"),
    (lambda: models.lstm()(tg.zeros(2, 28)), "expected [(]N, T, 28[)]"),
]


@pytest.mark.parametrize("make, message", MISTAKES, ids=[m for _, m in MISTAKES])
def test_mistakes_are_explained(make, message, unfilled):
    with pytest.raises(ValueError, match=message):
        make()


def _torch_basic_block(torch, inputs, outputs, stride, downsample):
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(outputs)
            self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(outputs)
            if downsample is not None:
                self.downsample = downsample

        def forward(self, x):
            shortcut = x if downsample is None else self.downsample(x)
            return (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + shortcut).relu()

    return Block()


def _torch_resnet(torch):
    t = torch.nn

    def stage(inputs, outputs, stride):
        down = (
            None
            if inputs == outputs
            else t.Sequential(t.Conv2d(inputs, outputs, 1, stride, bias=False), t.BatchNorm2d(outputs))
        )
        return t.Sequential(_torch_basic_block(torch, inputs, outputs, stride, down))

    class Network(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = t.Conv2d(3, 64, 7, 2, 3, bias=False), t.BatchNorm2d(64)
            self.layer1, self.layer2 = stage(64, 64, 1), stage(64, 128, 2)
            self.layer3, self.layer4 = stage(128, 256, 2), stage(256, 512, 2)
            self.fc = t.Linear(512, 5)

        def forward(self, x):
            x = t.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
            return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))

    return Network()


def _torch_cifar_resnet(torch):
    t = torch.nn

    class Shortcut(t.Module):
        def forward(self, x):
            spread = x.new_zeros(len(x), 2 * x.shape[1], *x[0, 0, ::2, ::2].shape)
            half = x.shape[1] // 2
            spread[:, half : half + x.shape[1]] = x[:, :, ::2, ::2]
            return spread

    class Network(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = t.Conv2d(3, 16, 3, 1, 1, bias=False), t.BatchNorm2d(16)
            self.layer1 = t.Sequential(_torch_basic_block(torch, 16, 16, 1, None))
            self.layer2 = t.Sequential(_torch_basic_block(torch, 16, 32, 2, Shortcut()))
            self.layer3 = t.Sequential(_torch_basic_block(torch, 32, 64, 2, Shortcut()))
            self.fc = t.Linear(64, 10)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
            return self.fc(x.mean((2, 3)))

    return Network()


def _torch_vgg(torch):
    t = torch.nn
    layers, inputs = [], 3
    for outputs in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
        if outputs == "M":
            layers.append(t.MaxPool2d(2))
        else:
            layers += [t.Conv2d(inputs, outputs, 3, padding=1), t.BatchNorm2d(outputs), t.ReLU()]
            inputs = outputs
    network = t.Sequential()
    network.add_module("features", t.Sequential(*layers))
    network.add_module("flatten", t.Flatten())
    network.add_module("classifier", t.Linear(512, 10))
    return network


def _torch_mobilenet(torch):
    t = torch.nn

    def unit(inputs, outputs, kernel, stride=1, groups=1):
        padding = kernel // 2
        return t.Sequential(
            t.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False), t.BatchNorm2d(outputs), t.ReLU6()
        )

    class Block(t.Module):
        def __init__(self, inputs, outputs, stride, expansion):
            super().__init__()
            hidden = inputs * expansion
            layers = [unit(inputs, hidden, 1)] if expansion != 1 else []
            layers += [
                unit(hidden, hidden, 3, stride, hidden),
                t.Conv2d(hidden, outputs, 1, bias=False),
                t.BatchNorm2d(outputs),
            ]
            self.conv, self.residual = t.Sequential(*layers), stride == 1 and inputs == outputs

        def forward(self, x):
            return x + self.conv(x) if self.residual else self.conv(x)

    class Network(t.Module):
        def __init__(self):
            super().__init__()
            blocks = [Block(16, 8, 1, 1), Block(8, 16, 2, 6), Block(16, 16, 1, 6)]
            self.features = t.Sequential(unit(3, 16, 3, 2), *blocks, unit(16, 1280, 1))
            self.classifier = t.Sequential(t.Dropout(0.0), t.Linear(1280, 5))

        def forward(self, x):
            return self.classifier(self.features(x).mean((2, 3)))

    return Network()


def _torch_mobilenet_v1_block(torch):
    t = torch.nn

    class Network(t.Module):
        def __init__(self):
            super().__init__()
            self.depthwise = t.Sequential(t.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False), t.BatchNorm2d(6), t.ReLU())
            self.pointwise = t.Sequential(t.Conv2d(6, 10, 1, bias=False), t.BatchNorm2d(10), t.ReLU())

        def forward(self, x):
            return self.pointwise(self.depthwise(x))

    return Network()


def _torch_lstm(torch):
    t = torch.nn

    class Network(t.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.fc = t.LSTM(9, 12, batch_first=True), t.Linear(12, 10)

        def forward(self, x):
            return self.fc(self.lstm(x.flatten(1, 2))[0][:, -1])

    return Network()


SLIM = [(1, 16, 1, 1), (6, 32, 2, 2)]
PAIRS = {
    "resnet": (lambda: models.ResNet(models.BasicBlock, [1, 1, 1, 1], 5), _torch_resnet, (3, 3, 37, 32)),
    "resnet for CIFAR": (lambda: models.CifarResNet(8), _torch_cifar_resnet, (3, 3, 17, 16)),
    "vgg": (lambda: models.vgg11_cifar(batch_norm=True), _torch_vgg, (3, 3, 32, 32)),
    "mobilenet 2": (lambda: models.mobilenet_v2(5, 0.5, SLIM, dropout=0.0), _torch_mobilenet, (3, 3, 18, 20)),
    "depthwise block": (lambda: models.DepthwiseSeparable(6, 10, 2), _torch_mobilenet_v1_block, (3, 6, 9, 8)),
    "lstm": (lambda: models.lstm(9, 12), _torch_lstm, (3, 1, 7, 9)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_models_equal_plain_pytorch_ones(name):
    """Outputs, gradients, running statistics and names, in float64, in training and in evaluation."""
    torch = pytest.importorskip("torch")
    make, make_torch, shape = PAIRS[name]
    ours, theirs = make().double(), make_torch(torch).double()
    mine = ours.state_dict()
    theirs.load_state_dict({key: torch.from_numpy(value.detach().numpy().copy()) for key, value in mine.items()}, strict=True)
    rng = np.random.default_rng(0)
    images = rng.standard_normal(shape)
    x, y = tg.tensor(images, requires_grad=True), torch.tensor(images, requires_grad=True)
    a, b = ours(x), theirs(y)
    upstream = rng.standard_normal(a.shape)
    a.backward(tg.tensor(upstream))
    b.backward(torch.tensor(upstream))
    close = {"rtol": 1e-7, "atol": 1e-9}
    assert np.allclose(a.detach().numpy(), b.detach().numpy(), **close)
    assert np.allclose(x.grad.detach().numpy(), y.grad.detach().numpy(), **close)
    for (key, p), (same, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        scale = max(1.0, float(q.grad.abs().max()))
        assert key == same and np.allclose(p.grad.detach().numpy() / scale, q.grad.detach().numpy() / scale, **close), key
    for (key, p), (same, q) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        assert key == same and np.allclose(p.detach().numpy(), q.detach().numpy(), **close), key
    ours.eval(), theirs.eval()
    with tg.no_grad(), torch.no_grad():
        assert np.allclose(ours(tg.tensor(images)).detach().numpy(), theirs(torch.tensor(images)).detach().numpy(), **close)


def test_names_of_parameters_are_those_of_torchvision(unfilled):
    """So that its weights load: keys that torchvision's files are known to have, and how many there are."""
    known = {
        "resnet18": (122, ["conv1.weight", "bn1.num_batches_tracked", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias", "fc.bias"]),
        "resnet50": (320, ["layer1.0.conv3.weight", "layer1.0.downsample.1.running_var", "layer3.5.bn3.weight"]),
        "vgg11": (22, ["features.0.weight", "features.18.bias", "classifier.0.weight", "classifier.6.bias"]),
        "vgg16_bn": (97, ["features.1.running_mean", "features.40.bias", "classifier.3.weight"]),
        "alexnet": (16, ["features.0.weight", "features.10.bias", "classifier.1.weight", "classifier.6.bias"]),
        "mobilenet_v2": (314, ["features.0.0.weight", "features.1.conv.0.0.weight", "features.1.conv.2.bias",
                               "features.2.conv.1.1.running_var", "features.18.1.weight", "classifier.1.bias"]),
    }  # fmt: skip
    for name, (count, keys) in known.items():
        state = models.create(name).state_dict()
        assert set(keys) <= set(state) and len(state) == count, name


def test_a_dilated_network_keeps_its_resolution(unfilled):
    model = models.resnet50(
        num_classes=2, replace_stride_with_dilation=(False, True, True), norm_layer=lambda n: nn.GroupNorm(4, n)
    )
    assert model.layer4[0].conv2.dilation == (2, 2) and model.layer4[1].conv2.dilation == (4, 4)
    assert model.layer4[0].conv2.stride == (1, 1) and isinstance(model.layer1[0].bn1, nn.GroupNorm)
    with tg.no_grad():
        assert model.layer4(model.layer3(tg.zeros(1, 512, 8, 8))).shape == (1, 2048, 8, 8)
