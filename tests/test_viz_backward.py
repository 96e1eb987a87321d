"""The way gradients flow, in pictures; and colours by what operators cost."""

import re

import pytest

import tinygrad_cv as tg
from tinygrad_cv import models, nn, viz


def _lecture(**options):
    x, y, z = (tg.tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    return viz.draw(f, grads=True, **options)


def test_the_backward_graph_leads_from_the_result_to_the_gradients_of_the_leaves():
    lines = [line.strip() for line in str(_lecture(graph="backward")).splitlines()]
    assert lines == [
        "grad of x, float32, grad -4 [b_n0]",
        "add backward, grad of q, float32, grad -4 [b_n2]",
        "mul backward, grad of f, float32, grad 1 [b_n4]",
        "1 [seed0]",
        "grad of y, float32, grad -4 [b_n1]",
        "add backward, grad of q, float32, grad -4 [b_n2] (above)",
        "grad of z, float32, grad 3 [b_n3]",
        "mul backward, grad of f, float32, grad 1 [b_n4] (above)",
    ]


def test_arrows_of_the_backward_graph_carry_what_each_use_contributes():
    x = tg.tensor(3.0, requires_grad=True)
    picture = viz.draw(x * x, grads=True, graph="backward")
    # d(x x)/dx = x + x: two arrows of 3 that add to 6.
    assert picture.edge_count == 3 and "input: 3" in picture.dot and "other: 3" in picture.dot
    assert "adds 2 gradients" in picture.dot and "grad 6" in picture.dot


def test_gradients_flow_only_where_they_are_wanted():
    x, fixed = tg.tensor(1.0, requires_grad=True), tg.tensor(2.0)
    picture = viz.draw((x * fixed).exp(), graph="backward")
    assert picture.node_count == 4 and "fixed" not in picture.dot  # the start, exp, mul, the gradient of x
    scores = tg.randn(4, 3, requires_grad=True)
    loss = nn.functional.cross_entropy(scores, tg.tensor([0, 1, 2, 0]))
    assert "grad of scores" in viz.draw(loss, graph="backward").dot
    with pytest.raises(ValueError, match="nothing that was computed requires grad"):
        viz.draw(lambda v: v * 2, tg.ones(1), graph="backward")


def test_both_graphs_stand_side_by_side_with_what_is_kept():
    picture = _lecture(graph="both")
    assert picture.node_count == 5 + 5 + 1 and 'label="forward"' in picture.dot and 'label="backward"' in picture.dot
    assert picture.edge_count == 4 + 4 + 1 + 1  # values, gradients, the start, what mul keeps
    assert re.search(r'n4 -> b_n4 \[label=" keeps (input, other|other, input) "', picture.dot)
    assert picture.dot.count("style=dashed, color") == 5 and picture.dot.count("dir=back") == 5


def test_the_backward_graph_folds_like_the_forward_graph():
    model = models.lenet5()
    picture = viz.draw(model, tg.zeros(1, 1, 28, 28), depth=1, graph="backward")
    assert picture.node_count == 4 and "classifier backward" in picture.dot  # three modules and the start
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(6)))
    assert "× 6" in viz.draw(blocks, tg.ones(1, 2), graph="backward", fold=True).dot


def _fills(picture):
    """Fill colour and text of every box but the legend's."""
    boxes = re.findall(r'^ *((?!legend)\w+) \[label="(.*?)", .*?fillcolor="(.*?)"', picture.dot, re.M)
    return {text.split("\\n")[0]: (fill, text) for _, text, fill in boxes}


def test_colours_by_flops_show_where_the_work_is():
    model = models.lenet5()
    picture = viz.draw(model, tg.zeros(1, 1, 28, 28), depth=2, color_by="flops")
    boxes = _fills(picture)
    # LeCun et al. 1998 with 28 x 28 outputs: 2 * 6 * 25 * 784 + bias, 2 * 16 * 150 * 100 + bias.
    assert f"{(6 * 25 * 2 + 6) * 784 / 1e3:.3g} kFLOP" in boxes["features.0"][1]
    assert f"{(16 * 150 * 2 + 16) * 100 / 1e3:.3g} kFLOP" in boxes["features.3"][1]
    steps = viz.THEMES["light"].steps
    assert boxes["features.3"][0] == steps[-1] and boxes["classifier.4"][0] == steps[0]
    assert "subgraph cluster_legend" in picture.dot and all(step in picture.dot for step in steps)
    assert "share of the largest" in str(picture)


def test_folded_boxes_count_the_work_of_all_their_blocks():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(6)))
    folded = _fills(viz.draw(model, tg.ones(1, 2), color_by="flops", fold=True))
    # 6 * (2 outputs of 2 multiply-adds and a bias); 6 * 2 tanh.
    assert "60 FLOP, 83 %" in folded["linear"][1] and "12 FLOP, 17 %" in folded["tanh"][1]
    picture = viz.draw(model, tg.ones(1, 2), fold=True, highlight=["4.0.weight", "5"])
    assert picture.dot.count("penwidth=3.5") == 4  # in blocks that are drawn as the first: weight; linear with both, tanh


def test_colours_by_memory_and_by_what_is_kept():
    layer = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    boxes = _fills(viz.draw(layer, tg.ones(2, 4), color_by="memory"))
    assert "64 B, 50 %" in boxes["relu"][1] or "64 B" in boxes["relu"][1]  # (2, 8) of float32
    x = tg.ones(100, requires_grad=True)
    y = (
        x.exp() * x
    )  # exp keeps its result; mul keeps both factors, of which one is kept already and x is a leaf that is there anyway
    kept = _fills(viz.draw(y, color_by="saved"))
    assert "keeps 400 B" in kept["exp"][1] and "keeps 0 B" in kept["y = mul"][1]


def test_colours_by_gradient_length():
    x = tg.tensor([3.0, 4.0], requires_grad=True)
    z = (x * x).sum() / 2
    assert "|grad| 5" in _fills(viz.draw(z, color_by="grad_norm"))["x"][1]  # the gradient is (3, 4)
    with pytest.raises((ValueError, RuntimeError), match="grad"):
        viz.draw(lambda v: v * 2, tg.ones(1), color_by="grad_norm")


def test_colours_by_family_have_a_legend_and_words():
    picture = viz.draw(models.lenet5(), tg.zeros(1, 1, 28, 28), color_by="family")
    boxes = _fills(picture)
    assert (
        "[convolution]" in boxes["conv2d"][1] and "[products]" in boxes["linear"][1] and "[pooling]" in boxes["max_pool2d"][1]
    )
    assert len({boxes[name][0] for name in ("conv2d", "linear", "relu", "max_pool2d", "flatten")}) == 5
    assert [line for line in picture.dot.splitlines() if line.lstrip().startswith("legend")]


def test_every_operator_has_a_family():
    from tinygrad_cv.viz.colouring import family_of

    assert {
        o.name for o in tg.registry.operators(plugins=False) if family_of(o.name) == "other" and o.provider == "tinygrad_cv"
    } == set()


def test_colours_by_time():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    picture = viz.draw(model, tg.ones(32, 64), color_by="time", graph="both")
    assert len(re.findall(r"[\d.]+ (?:us|ms|s), \d+ %", picture.dot)) >= 4  # two operators, forward and backward
    profile = tg.profiler.measure(model, tg.ones(32, 64), runs=1)
    assert "us" in viz.draw(profile, color_by="time").dot or "ms" in viz.draw(profile, color_by="time").dot
