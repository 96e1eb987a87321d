"""Every layer against PyTorch in float64: outputs, input gradients, parameter gradients, state names, repr and defaults."""

import math

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def case(name, *args, inputs, **kwargs):
    label = f"{name}({', '.join([*map(str, args), *(f'{k}={v}' for k, v in kwargs.items())])})"
    return pytest.param(name, args, kwargs, inputs, id=label)


IMAGE, LINE, VOLUME = (2, 4, 6, 7), (2, 4, 9), (2, 4, 5, 6, 4)
LAYERS = [
    case("Identity", inputs=[(2, 3)]),
    case("Linear", 5, 3, inputs=[(2, 4, 5)]),
    case("Linear", 5, 3, bias=False, inputs=[(5,)]),
    case("Bilinear", 3, 4, 5, inputs=[(6, 3), (6, 4)]),
    case("Bilinear", 3, 4, 5, bias=False, inputs=[(2, 3), (2, 4)]),
    case("Flatten", inputs=[IMAGE]),
    case("Flatten", 2, 3, inputs=[VOLUME]),
    case("Unflatten", 1, (2, 2), inputs=[IMAGE]),
    case("Conv1d", 4, 6, 3, inputs=[LINE]),
    case("BatchNorm2d", 4, inputs=[(1, 4, 1, 2)]),
    case("Conv1d", 4, 6, 3, padding="same", dilation=2, padding_mode="circular", inputs=[LINE]),
    case("Conv2d", 4, 6, 3, inputs=[IMAGE]),
    case("Conv2d", 4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False, inputs=[IMAGE]),
    case("Conv2d", 4, 6, 3, padding="same", inputs=[IMAGE]),
    case("Conv2d", 4, 6, 2, padding="same", padding_mode="reflect", inputs=[IMAGE]),
    case("Conv2d", 4, 6, 3, padding=(2, 1), padding_mode="replicate", inputs=[IMAGE]),
    case("Conv2d", 4, 6, 3, inputs=[IMAGE[1:]]),
    case("Conv3d", 4, 2, 3, padding=1, inputs=[VOLUME]),
    case("ConvTranspose1d", 4, 6, 3, stride=2, padding=1, output_padding=1, inputs=[LINE]),
    case("ConvTranspose2d", 4, 6, 3, inputs=[IMAGE]),
    case("ConvTranspose2d", 4, 6, (3, 2), stride=2, padding=1, output_padding=(1, 0), groups=2, bias=False, inputs=[IMAGE]),
    case("ConvTranspose3d", 4, 2, 2, stride=2, inputs=[VOLUME]),
    case("MaxPool1d", 3, stride=2, padding=1, inputs=[LINE]),
    case("MaxPool2d", 2, inputs=[IMAGE]),
    case("MaxPool2d", (3, 2), stride=(1, 2), padding=1, ceil_mode=True, inputs=[IMAGE]),
    case("MaxPool2d", 2, dilation=2, inputs=[IMAGE[1:]]),
    case("MaxPool3d", 2, inputs=[VOLUME]),
    case("AvgPool1d", 3, stride=2, padding=1, count_include_pad=False, inputs=[LINE]),
    case("AvgPool2d", 2, ceil_mode=True, inputs=[IMAGE]),
    case("AvgPool2d", 3, stride=2, padding=1, divisor_override=5, inputs=[IMAGE]),
    case("AvgPool3d", 2, inputs=[VOLUME]),
    case("LPPool1d", 2, 3, stride=2, inputs=[LINE]),
    case("LPPool2d", 2, 2, inputs=[IMAGE]),
    case("LPPool3d", 2, 2, inputs=[VOLUME]),
    case("AdaptiveMaxPool1d", 4, inputs=[LINE]),
    case("AdaptiveMaxPool2d", (3, None), inputs=[IMAGE]),
    case("AdaptiveMaxPool3d", 2, inputs=[VOLUME]),
    case("AdaptiveAvgPool1d", 4, inputs=[LINE]),
    case("AdaptiveAvgPool2d", (1, 1), inputs=[IMAGE]),
    case("AdaptiveAvgPool3d", (2, 3, None), inputs=[VOLUME]),
    *[case(name, inputs=[(3, 4)]) for name in (
        "ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Hardsigmoid", "Hardswish", "LeakyReLU", "PReLU", "ELU", "CELU", "GELU", "Softplus",
        "Hardtanh", "Sigmoid", "LogSigmoid", "Tanh", "Softsign", "GLU", "Hardshrink", "Softshrink", "Tanhshrink",
    )],
    case("LeakyReLU", 0.3, inputs=[(3, 4)]),
    case("PReLU", 4, 0.1, inputs=[IMAGE]),
    case("ELU", 0.5, inputs=[(3, 4)]),
    case("CELU", 2.0, inputs=[(3, 4)]),
    case("GELU", "tanh", inputs=[(3, 4)]),
    case("Softplus", 2.0, 1.0, inputs=[(3, 4)]),
    case("Hardtanh", -0.5, 0.3, inputs=[(3, 4)]),
    case("Threshold", 0.1, -7.0, inputs=[(3, 4)]),
    case("Hardshrink", 0.2, inputs=[(3, 4)]),
    case("Softshrink", 0.2, inputs=[(3, 4)]),
    case("Softmax", 1, inputs=[(3, 4)]),
    case("Softmin", -1, inputs=[(3, 4)]),
    case("LogSoftmax", 0, inputs=[(3, 4)]),
    case("Softmax2d", inputs=[IMAGE]),
    case("Softmax2d", inputs=[IMAGE[1:]]),
    case("GLU", 1, inputs=[IMAGE]),
    case("BatchNorm1d", 4, inputs=[(5, 4)]),
    case("BatchNorm1d", 4, momentum=None, inputs=[LINE]),
    case("BatchNorm2d", 4, eps=1e-3, momentum=0.3, inputs=[IMAGE]),
    case("BatchNorm2d", 4, affine=False, track_running_stats=False, inputs=[IMAGE]),
    case("BatchNorm3d", 4, inputs=[VOLUME]),
    case("InstanceNorm1d", 4, inputs=[LINE]),
    case("InstanceNorm2d", 4, affine=True, track_running_stats=True, inputs=[IMAGE]),
    case("InstanceNorm2d", 4, inputs=[IMAGE[1:]]),
    case("InstanceNorm3d", 4, affine=True, inputs=[VOLUME]),
    case("LayerNorm", 7, inputs=[IMAGE]),
    case("LayerNorm", (6, 7), bias=False, eps=1e-3, inputs=[IMAGE]),
    case("LayerNorm", 7, elementwise_affine=False, inputs=[IMAGE]),
    case("RMSNorm", 7, inputs=[IMAGE]),
    case("GroupNorm", 2, 4, inputs=[IMAGE]),
    case("LocalResponseNorm", 3, alpha=0.1, inputs=[IMAGE]),
    case("ConstantPad1d", 2, 0.5, inputs=[LINE]),
    case("ConstantPad2d", (1, 2, 0, 3), -1.0, inputs=[IMAGE]),
    case("ConstantPad3d", 1, 2.0, inputs=[VOLUME]),
    case("ZeroPad1d", (1, 2), inputs=[LINE]),
    case("ZeroPad2d", (1, -1, 2, 0), inputs=[IMAGE]),
    case("ZeroPad3d", 1, inputs=[VOLUME]),
    *[
        case(f"{kind}Pad{n}d", 2, inputs=[(LINE, IMAGE, VOLUME)[n - 1]])
        for kind in ("Reflection", "Replication", "Circular")
        for n in (1, 2, 3)
    ],
    case("Upsample", scale_factor=2, inputs=[IMAGE]),
    case("Upsample", size=(5, 9), mode="bilinear", inputs=[IMAGE]),
    case("Upsample", scale_factor=(2.0, 1.5), mode="bicubic", align_corners=True, inputs=[IMAGE]),
    case("UpsamplingNearest2d", scale_factor=3, inputs=[IMAGE]),
    case("UpsamplingBilinear2d", size=(8, 8), inputs=[IMAGE]),
    case("PixelShuffle", 2, inputs=[IMAGE]),
    case("PixelUnshuffle", 2, inputs=[(2, 3, 4, 6)]),
    case("ChannelShuffle", 2, inputs=[IMAGE]),
    case("Unfold", (2, 3), dilation=1, padding=1, stride=2, inputs=[IMAGE]),
    case("Fold", (4, 5), (2, 2), inputs=[(2, 12, 12)]),
    case("CosineSimilarity", inputs=[(3, 4), (3, 4)]),
    case("PairwiseDistance", p=3.0, keepdim=True, inputs=[(3, 4), (3, 4)]),
]  # fmt: skip


def build(name, args, kwargs):
    """Our layer and PyTorch's in float64, with the same random parameters."""
    theirs, ours = getattr(torch.nn, name)(*args, **kwargs).double(), getattr(nn, name)(*args, **kwargs).double()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape))))
    assert list(theirs.state_dict()) == list(ours.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return theirs, ours


def compare(theirs, ours, arrays, seed=1, rtol=1e-8):
    """Outputs and all gradients, for a random upstream gradient."""
    their_inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    our_inputs = [tg.tensor(a, requires_grad=True) for a in arrays]
    their_out, our_out = theirs(*their_inputs), ours(*our_inputs)
    np.testing.assert_allclose(our_out.detach().numpy(), their_out.detach().numpy(), rtol=1e-10, atol=1e-12)
    upstream = np.random.default_rng(seed).standard_normal(tuple(their_out.shape))
    their_out.backward(torch.from_numpy(upstream))
    our_out.backward(tg.tensor(upstream))
    for a, b in zip(our_inputs, their_inputs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=rtol, atol=1e-10)
    for (key, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=rtol, atol=1e-10, err_msg=key)
    for (key, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name, args, kwargs, inputs", LAYERS)
def test_layer_computes_what_pytorch_computes(name, args, kwargs, inputs):
    theirs, ours = build(name, args, kwargs)
    rng = np.random.default_rng(2)
    # PyTorch's Hardsigmoid multiplies by a float32 1/6 in its backward, whatever the dtype.
    rtol = 1e-7 if name == "Hardsigmoid" else 1e-8
    for seed in range(2):  # twice: running statistics must move as well
        for p in (*theirs.parameters(), *ours.parameters()):
            p.grad = None
        compare(theirs, ours, [rng.standard_normal(s) for s in inputs], seed, rtol)
    theirs.eval(), ours.eval()
    for p in (*theirs.parameters(), *ours.parameters()):
        p.grad = None
    compare(theirs, ours, [rng.standard_normal(s) for s in inputs], rtol=rtol)


# PyTorch's normalisation layers print their settings differently from version to version; its distances print none.
PRINTED = [c for c in LAYERS if not c.values[0].endswith(("Norm", "Norm1d", "Norm2d", "Norm3d", "Similarity", "Distance"))]


@pytest.mark.parametrize("name, args, kwargs, inputs", PRINTED)
def test_layer_prints_as_in_pytorch(name, args, kwargs, inputs):
    assert repr(getattr(nn, name)(*args, **kwargs)) == repr(getattr(torch.nn, name)(*args, **kwargs))


IMAGES = np.random.default_rng(3).standard_normal
LOSSES = [
    ("L1Loss", {}, "pair"), ("MSELoss", {}, "pair"), ("SmoothL1Loss", {"beta": 0.5}, "pair"), ("HuberLoss", {"delta": 0.7}, "pair"),
    ("SoftMarginLoss", {}, "signs"), ("HingeEmbeddingLoss", {"margin": 0.5}, "signs"),
    ("CrossEntropyLoss", {}, "classes"), ("CrossEntropyLoss", {"label_smoothing": 0.2, "ignore_index": 1}, "classes"),
    ("NLLLoss", {"ignore_index": 2}, "classes"), ("MultiMarginLoss", {"p": 2, "margin": 0.5}, "classes"),
    ("MultiMarginLoss", {}, "classes"),
    ("BCELoss", {}, "probabilities"), ("BCEWithLogitsLoss", {}, "unit"), ("KLDivLoss", {"log_target": True}, "pair"),
    ("PoissonNLLLoss", {"full": True}, "counts"), ("PoissonNLLLoss", {"log_input": False}, "positive"),
    ("MultiLabelMarginLoss", {}, "labels"), ("MultiLabelSoftMarginLoss", {}, "unit"),
]  # fmt: skip


def loss_arguments(kind):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((5, 4))
    targets = {
        "pair": rng.standard_normal((5, 4)),
        "signs": np.where(rng.random((5, 4)) < 0.5, -1.0, 1.0),
        "classes": np.array([0, 3, 1, 2, 2]),
        "probabilities": rng.random((5, 4)),
        "unit": rng.random((5, 4)),
        "counts": rng.integers(0, 5, (5, 4)).astype(float),
        "positive": rng.integers(0, 5, (5, 4)).astype(float),
        "labels": np.array([[0, 2, -1, 1], [3, -1, 0, 0], [1, 2, 3, 0], [-1, 0, 1, 2], [2, 0, 1, -1]]),
    }
    if kind in ("probabilities", "positive"):
        x = rng.uniform(0.05, 0.95, (5, 4))
    return x, targets[kind]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")  # PyTorch's remark on its KLDivLoss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name, kwargs, kind", LOSSES)
def test_loss_computes_what_pytorch_computes(name, kwargs, kind, reduction):
    x, target = loss_arguments(kind)
    theirs = getattr(torch.nn, name)(reduction=reduction, **kwargs)
    ours = getattr(nn, name)(reduction=reduction, **kwargs)
    a, b = torch.tensor(x, requires_grad=True), tg.tensor(x, requires_grad=True)
    their_out, our_out = theirs(a, torch.tensor(target)), ours(b, tg.tensor(target))
    np.testing.assert_allclose(our_out.detach().numpy(), their_out.detach().numpy(), rtol=1e-10, atol=1e-12)
    upstream = np.random.default_rng(5).standard_normal(tuple(their_out.shape))
    their_out.backward(torch.tensor(upstream))
    our_out.backward(tg.tensor(upstream))
    np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"])
def test_class_weights_are_buffers_and_are_used(name):
    x, target = loss_arguments("classes")
    weight = np.array([0.5, 2.0, 1.0, 0.1])
    ours = getattr(nn, name)(weight=tg.tensor(weight))
    theirs = getattr(torch.nn, name)(weight=torch.tensor(weight))
    assert float(ours(tg.tensor(x), tg.tensor(target))) == pytest.approx(
        float(theirs(torch.tensor(x), torch.tensor(target))), rel=1e-12
    )
    assert list(ours.state_dict()) == ["weight"]
    assert not list(ours.parameters())


def test_losses_of_three_tensors():
    rng = np.random.default_rng(6)
    a, p, n = (rng.standard_normal((4, 3)) for _ in range(3))
    y = np.array([1.0, -1.0, 1.0, -1.0])
    checks = [
        ("TripletMarginLoss", {"margin": 2.0, "swap": True, "p": 1.0}, (a, p, n)),
        ("TripletMarginWithDistanceLoss", {"margin": 2.0, "swap": True}, (a, p, n)),
        ("TripletMarginWithDistanceLoss", {"distance_function": lambda x, y: (x - y).abs().amax(-1)}, (a, p, n)),
        ("CosineEmbeddingLoss", {"margin": 0.1}, (a, p, y)),
        ("MarginRankingLoss", {"margin": 0.3}, (a[:, 0], p[:, 0], y)),
        ("GaussianNLLLoss", {"full": True}, (a, p, np.abs(n) + 0.1)),
    ]
    for name, kwargs, arrays in checks:
        ours, theirs = getattr(nn, name)(**kwargs), getattr(torch.nn, name)(**kwargs)
        expected = float(theirs(*map(torch.tensor, arrays)))
        assert float(ours(*map(tg.tensor, arrays))) == pytest.approx(expected, rel=1e-9), name


def test_kl_divergence_batchmean_is_the_divergence_of_the_batch():
    rng = np.random.default_rng(7)
    p, q = rng.dirichlet(np.ones(5), 3), rng.dirichlet(np.ones(5), 3)
    expected = (p * np.log(p / q)).sum() / 3
    assert float(nn.KLDivLoss(reduction="batchmean")(tg.tensor(np.log(q)), tg.tensor(p))) == pytest.approx(expected, rel=1e-12)


def test_embedding_and_its_padding_row():
    theirs, ours = build("Embedding", (6, 3), {"padding_idx": 2})
    index = np.array([[0, 2, 5], [2, 2, 1]])
    upstream = np.random.default_rng(8).standard_normal((2, 3, 3))
    theirs(torch.tensor(index)).backward(torch.tensor(upstream))
    ours(tg.tensor(index)).backward(tg.tensor(upstream))
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-12)
    fresh = nn.Embedding(6, 3, padding_idx=-1)
    assert fresh.padding_idx == 5 and not fresh.weight[5].any()
    frozen = nn.Embedding.from_pretrained(tg.ones(4, 2))
    assert not frozen.weight.requires_grad and frozen(tg.tensor([1])).shape == (1, 2)
    with pytest.raises(ValueError, match="padding_idx 9"):
        nn.Embedding(6, 3, padding_idx=9)


BAGS = {
    "rows": (np.array([[0, 2, 5], [2, 2, 1]]), None),
    "offsets": (np.array([0, 2, 5, 2, 2, 1, 4]), np.array([0, 3, 3, 4])),
    "last": (np.array([0, 2, 5, 2, 2, 1, 4]), np.array([0, 3, 3, 7])),
}


@pytest.mark.parametrize("bags", BAGS)
@pytest.mark.parametrize("settings", [
    {"mode": "sum"}, {"mode": "mean", "padding_idx": 2}, {"mode": "max", "padding_idx": -1}, {"max_norm": 1.0, "norm_type": 1.0},
])  # fmt: skip
def test_embedding_bag_reduces_bags_as_pytorch_does(bags, settings):
    settings = {**settings, "include_last_offset": bags == "last"}
    theirs, ours = build("EmbeddingBag", (6, 3), settings)
    index, offsets = BAGS[bags]
    weights = np.random.default_rng(9).standard_normal(index.shape) if settings.get("mode") == "sum" else None
    outs = []
    for library, layer in ((torch, theirs), (tg, ours)):
        arguments = [None if a is None else library.tensor(a) for a in (index, offsets, weights)]
        outs.append(layer(*arguments))
        outs[-1].backward(library.tensor(np.random.default_rng(8).standard_normal(tuple(outs[-1].shape))))
    np.testing.assert_allclose(outs[1].detach().numpy(), outs[0].detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours.weight.detach().numpy(), theirs.weight.detach().numpy(), rtol=1e-12)
    assert repr(ours) == repr(theirs)


def test_embedding_bag_of_a_given_table():
    table = tg.ones(4, 2)
    assert not nn.EmbeddingBag.from_pretrained(table).weight.requires_grad
    layer = nn.EmbeddingBag.from_pretrained(table, freeze=False, mode="sum", padding_idx=1)
    assert layer.weight.requires_grad and layer(tg.tensor([[0, 1, 3]])).tolist() == [[2, 2]]
    assert not nn.EmbeddingBag(6, 3, padding_idx=-1).weight[5].any()
    for arguments, words in [
        ({"padding_idx": 9}, "padding_idx 9"),
        ({"mode": "median"}, "mode must"),
        ({"sparse": True}, "sparse"),
    ]:
        with pytest.raises(ValueError, match=f"^EmbeddingBag: .*{words}"):
            nn.EmbeddingBag(6, 3, **arguments)


def test_rrelu_draws_its_slopes_only_while_training():
    tg.manual_seed(4)
    layer = nn.RReLU(0.1, 0.3)
    assert repr(layer) == repr(torch.nn.RReLU(0.1, 0.3))
    x = tg.tensor(np.random.default_rng(10).standard_normal(20000), requires_grad=True)
    out = layer(x)
    out.sum().backward()
    slopes, negative = x.grad.numpy(), x.detach().numpy() < 0
    np.testing.assert_allclose(out.detach().numpy(), slopes * x.detach().numpy(), rtol=1e-12)
    assert (slopes[~negative] == 1).all() and 0.1 <= slopes[negative].min() < slopes[negative].max() <= 0.3
    spread = 0.2 / math.sqrt(12)
    assert abs(slopes[negative].mean() - 0.2) < 5 * spread / 100 and abs(slopes[negative].std() - spread) < 0.002
    assert layer.eval()(tg.tensor([-1.0, 0.0, 2.0])).tolist() == pytest.approx([-0.2, 0.0, 2.0])
    values = tg.tensor([-1.0, 2.0])
    assert nn.RReLU(inplace=True)(values) is values and values[1] == 2 and -1 / 3 <= values[0].item() <= -1 / 8
    with pytest.raises(ValueError, match="rrelu: lower must not exceed upper"):
        tg.nn.functional.rrelu(x, 0.5, 0.1)


def test_hardtanh_takes_the_old_names_of_its_bounds_and_says_so():
    with pytest.warns(FutureWarning, match="old names"):
        layer = nn.Hardtanh(min_value=-2.0, max_value=0.5)
    assert (layer.min_val, layer.max_val) == (-2.0, 0.5)


def test_unpooling_undoes_pooling():
    x = tg.tensor(np.random.default_rng(9).standard_normal((2, 3, 6, 6)))
    pooled, indices = nn.MaxPool2d(2, return_indices=True)(x)
    theirs_pooled, theirs_indices = torch.nn.MaxPool2d(2, return_indices=True)(torch.tensor(x.numpy()))
    restored = nn.MaxUnpool2d(2)(pooled, indices)
    np.testing.assert_array_equal(restored.numpy(), torch.nn.MaxUnpool2d(2)(theirs_pooled, theirs_indices).numpy())
    np.testing.assert_array_equal(nn.MaxPool2d(2)(restored.abs() + 0).numpy().shape, pooled.shape)


def test_fractional_pooling_gives_the_size_asked_for():
    tg.manual_seed(0)
    x = tg.randn(2, 3, 9, 9)
    assert nn.FractionalMaxPool2d(2, output_size=(5, 4))(x).shape == (2, 3, 5, 4)
    assert nn.FractionalMaxPool2d(3, output_ratio=0.5)(x).shape == (2, 3, 4, 4)
    with pytest.raises(ValueError, match="exactly one"):
        nn.FractionalMaxPool2d(2)


@pytest.mark.parametrize(
    "layer, shape, unit",
    [
        (nn.Dropout(0.25), (200, 300), 0),
        (nn.Dropout1d(0.25), (100, 300, 2), 1),
        (nn.Dropout2d(0.25), (100, 300, 2, 2), 2),
        (nn.Dropout3d(0.25), (100, 300, 1, 2, 2), 3),
    ],
    ids=["Dropout", "Dropout1d", "Dropout2d", "Dropout3d"],
)
def test_dropout_drops_the_right_share_of_whole_units_and_scales_the_rest(layer, shape, unit):
    tg.manual_seed(1)
    out = layer(tg.ones(shape)).numpy()
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    per_unit = out.reshape(*shape[: len(shape) - unit], -1)
    assert (per_unit == per_unit[..., :1]).all()
    share = (per_unit[..., 0] == 0).mean() if unit else (out == 0).mean()
    count = per_unit[..., 0].size if unit else out.size
    assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / count)
    assert layer.eval()(tg.ones(shape)).numpy().all()


def test_alpha_dropout_keeps_mean_and_variance():
    tg.manual_seed(2)
    out = nn.AlphaDropout(0.3)(tg.randn(400, 500)).numpy()
    assert abs(out.mean()) < 0.02 and abs(out.var() - 1) < 0.03
    assert nn.FeatureAlphaDropout(0.3)(tg.randn(4, 5, 2)).shape == (4, 5, 2)


def test_maxout_takes_the_largest_of_each_group():
    out = nn.Maxout(2)(tg.tensor([[1.0, 5.0, -3.0, -4.0]]))
    np.testing.assert_array_equal(out.numpy(), [[5.0, -3.0]])


def test_in_place_activation_changes_its_input():
    x = tg.tensor([-1.0, 2.0])
    out = nn.ReLU(inplace=True)(x)
    assert x.tolist() == [0.0, 2.0] and out.tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "divisible by groups=2"),
        (lambda: nn.Conv2d(3, 4, 3, padding="half"), "'same', 'valid'"),
        (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"), "stride 1 only"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "kernel_size"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), "padding_mode"),
        (lambda: nn.Conv2d(3, 4, 0), "must be positive"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "only padding_mode='zeros'"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2)(tg.zeros(1, 3, 4, 4), output_size=(20, 20)), "output sizes from"),
        (lambda: nn.Dropout(1.5), r"p must lie in \[0, 1\]"),
        (lambda: nn.GroupNorm(3, 4), "num_groups=3"),
        (lambda: nn.BatchNorm2d(3)(tg.zeros(2, 3)), "BatchNorm2d"),
        (lambda: nn.InstanceNorm2d(3, affine=True)(tg.zeros(2, 5, 4, 4)), "expected 3 channels"),
        (lambda: nn.CrossEntropyLoss(reduction="average"), "reduction"),
        (lambda: nn.Hardtanh(1.0, -1.0), "max_val"),
        (lambda: nn.MultiMarginLoss(p=3), "p must be 1 or 2"),
        (lambda: nn.ZeroPad2d((1, 2, 3)), "padding"),
        (lambda: nn.Softmax2d()(tg.zeros(3, 3)), "Softmax2d"),
    ],
)
def test_wrong_settings_raise_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_transposed_convolution_output_size_picks_the_padding():
    theirs, ours = build("ConvTranspose2d", (2, 3, 3), {"stride": 2, "padding": 1})
    x = np.random.default_rng(10).standard_normal((1, 2, 4, 4))
    expected = theirs(torch.tensor(x), output_size=(8, 7)).detach().numpy()
    np.testing.assert_allclose(ours(tg.tensor(x), output_size=(8, 7)).detach().numpy(), expected, rtol=1e-10)


def test_default_initialisation_has_pytorchs_distribution():
    """Bounds and variance of the uniform distributions PyTorch draws from: +-1/sqrt(fan_in)."""
    tg.manual_seed(3)
    for layer, fan_in in ((nn.Linear(400, 300), 400), (nn.Conv2d(16, 300, 5), 400), (nn.ConvTranspose2d(300, 16, 5), 400)):
        for parameter in (layer.weight, layer.bias):
            values, bound = parameter.detach().numpy().ravel().astype(np.float64), 1 / math.sqrt(fan_in)
            assert np.abs(values).max() <= bound * (1 + 1e-6)
            if values.size > 1000:
                assert abs(values.var() / (bound**2 / 3) - 1) < 0.02
                assert abs(values.mean()) < 4 * bound / math.sqrt(3 * values.size)
    first = nn.Linear(5, 4).weight.detach().numpy().copy()
    tg.manual_seed(3)
    nn.Linear(400, 300), nn.Conv2d(16, 300, 5), nn.ConvTranspose2d(300, 16, 5)
    np.testing.assert_array_equal(nn.Linear(5, 4).weight.detach().numpy(), first)


def test_embedding_max_norm_shortens_the_rows_that_are_looked_up():
    theirs, ours = build("Embedding", (6, 3), {"max_norm": 0.5, "norm_type": 1.0, "scale_grad_by_freq": True})
    index = np.array([1, 4, 1])
    out = ours(tg.tensor(index))
    expected = theirs(torch.tensor(index))
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.weight.detach().numpy(), theirs.weight.detach().numpy(), rtol=1e-6)
    out.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-12)
    assert repr(ours) == repr(theirs)
    with pytest.raises(ValueError, match="sparse"):
        nn.Embedding(6, 3, sparse=True)
    with pytest.raises(ValueError, match=r"weight has shape \(2, 2\), expected \(6, 3\)"):
        nn.Embedding(6, 3, _weight=tg.ones(2, 2))
    with pytest.raises(ValueError, match="expected a matrix"):
        nn.Embedding.from_pretrained(tg.ones(2))


def test_reset_gives_normalisation_its_first_values_back():
    for layer in (
        nn.BatchNorm2d(3),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        nn.GroupNorm(1, 3),
        nn.LayerNorm(4),
        nn.RMSNorm(4),
    ):
        first = {k: v.numpy().copy() for k, v in layer.state_dict().items()}
        with tg.no_grad():
            for p in layer.parameters():
                p.mul_(3.0).add_(1.0)
        layer(tg.randn(2, 3, 4, 4))
        assert any(not np.array_equal(v.numpy(), first[k]) for k, v in layer.state_dict().items())
        layer.reset_parameters()
        for k, v in layer.state_dict().items():
            np.testing.assert_array_equal(v.numpy(), first[k], err_msg=k)


@pytest.mark.parametrize(
    "name, args", [("BatchNorm2d", (3,)), ("GroupNorm", (1, 3)), ("LayerNorm", (4,)), ("InstanceNorm2d", (3, 1e-5, 0.1, True))]
)
def test_normalisation_without_bias(name, args):
    layer = getattr(nn, name)(*args, bias=False)
    assert layer.bias is None and [n for n, _ in layer.named_parameters()] == ["weight"]
    assert layer(tg.randn(2, 3, 4, 4)).shape == (2, 3, 4, 4)


def test_reset_parameters_draws_again():
    for layer in (
        nn.Linear(3, 2),
        nn.Conv2d(1, 2, 3),
        nn.Bilinear(2, 3, 4),
        nn.Embedding(4, 3, padding_idx=1),
        nn.GRU(2, 3),
        nn.GRUCell(2, 3),
    ):
        first = [p.detach().numpy().copy() for p in layer.parameters()]
        layer.reset_parameters()
        assert all(not np.array_equal(a, p.detach().numpy()) for a, p in zip(first, layer.parameters(), strict=True))
