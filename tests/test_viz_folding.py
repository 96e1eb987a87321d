"""Large graphs: runs of equal blocks drawn once, and what is folded by default."""

import random
import re
import time

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import models, nn, viz


def _counts(picture):
    return sorted(map(int, re.findall(r'\blabel="[^"]*× (\d+), one after the other', picture.dot)))


def test_resnet_152_at_depth_1_has_under_50_boxes():
    model = models.create("resnet152").eval()
    x = tg.zeros(1, 3, 32, 32)
    overview = viz.draw(model, x, depth=1)
    assert overview.node_count == 1 + 11  # the image; stem 4, stages 4, avgpool, flatten, fc
    # He et al. 2016, table 1: 3, 8, 36, 3 blocks; the first of each stage changes the size, so 2, 7, 35, 2 are equal.
    stages = viz.draw(model, x, depth=2)
    assert _counts(stages) == [7, 35] and stages.node_count < 50 and "drawn once" in stages.note
    assert "layer3.1 … 35" in stages.dot
    assert viz.draw(model, x, depth=2, fold=False).node_count - stages.node_count == 6 + 34


def test_resnet_18_at_depth_1_has_under_50_boxes():
    assert viz.draw(models.create("resnet18").eval(), tg.zeros(1, 3, 32, 32), depth=1).node_count == 12


def _blocks(*sizes):
    return nn.Sequential(*(nn.Sequential(nn.Linear(s, s), nn.Tanh()) for s in sizes))


def test_equal_modules_in_a_row_become_one_with_a_count():
    picture = viz.draw(_blocks(3, 3, 3, 3, 3), tg.ones(2, 3), fold=True)
    assert _counts(picture) == [5] and picture.node_count == 1 + 4  # the input; weight, bias, linear, tanh
    assert "0 … 4" in picture.dot
    assert viz.draw(_blocks(3, 3, 3, 3, 3), tg.ones(2, 3)).node_count == 1 + 20  # small pictures show everything
    assert viz.draw(_blocks(*[3] * 20), tg.ones(2, 3)).node_count == 1 + 4
    assert viz.draw(_blocks(*[3] * 20), tg.ones(2, 3), fold=False).node_count == 1 + 80


@pytest.mark.parametrize("change", ["activation", "shape", "setting"])
def test_a_block_that_differs_is_not_folded_away(change):
    blocks = [nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()) for _ in range(7)]
    if change == "activation":
        blocks[3] = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Tanh())
    elif change == "shape":
        blocks[3] = nn.Sequential(nn.Conv2d(2, 2, 3, padding=0), nn.ReLU())
    else:
        blocks[3] = nn.Sequential(nn.Conv2d(2, 2, 3, padding=2, dilation=2), nn.ReLU())
    assert _counts(viz.draw(nn.Sequential(*blocks), tg.ones(1, 2, 9, 9), fold=True)) == [3, 3]


def test_blocks_wired_in_other_ways_are_not_folded():
    blocks = [nn.Linear(2, 2) for _ in range(6)]

    class Fan(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(blocks)

        def forward(self, x):
            first = self.parts[0](x)
            second = self.parts[1](first)
            rest = [self.parts[i](first if i % 2 else second) for i in range(2, 6)]
            return tg.stack(rest)

    assert _counts(viz.draw(Fan(), tg.ones(1, 2), fold=True)) == []


def test_shared_values_may_enter_every_block():
    x, scale = tg.ones(2, requires_grad=True), tg.ones(2)
    y = x
    for _ in range(10):
        y = (y * scale).tanh()
    picture = viz.draw(y, fold=True)
    assert _counts(picture) == [10] and picture.node_count == 4  # x, scale, mul, tanh
    assert picture.edge_count == 3


def test_a_value_that_is_used_elsewhere_ends_a_run():
    y, taken = tg.ones(2, requires_grad=True), []
    for i in range(12):
        y = y.tanh()
        taken += [y] if i == 4 else []
    assert _counts(viz.draw(y + taken[0], fold=True)) == [5, 7]


def test_blocks_that_all_give_to_the_same_operator_are_folded():
    y, steps = tg.ones(2, requires_grad=True), []
    for _ in range(12):
        y = y.tanh()
        steps.append(y)
    picture = viz.draw(tg.stack(steps), fold=True)
    assert _counts(picture) == [12] and "tensors[11]" in picture.dot


def test_runs_inside_runs():
    inner = [nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(4)), nn.Tanh()) for _ in range(5)]
    picture = viz.draw(nn.Sequential(*inner), tg.ones(1, 2), fold=True)
    assert _counts(picture) == [4, 5] and picture.node_count == 1 + 4 + 1


def test_numbers_keep_blocks_apart():
    model = _blocks(*[3] * 20)
    assert viz.draw(model, tg.ones(1, 3), values=True).node_count == 1 + 80


def test_many_nodes_are_folded_by_default_and_say_so():
    model = nn.Sequential(*(nn.Sequential(*(nn.Linear(2 + j % 2, 3 - j % 2) for j in range(10))) for i in range(20)))
    picture = viz.draw(model, tg.ones(1, 2))
    assert picture.node_count <= 300 and re.match(r"\d+ nodes.*(drawn once|folded to depth \d)", picture.note)
    assert picture.note in picture.dot and str(picture).startswith(picture.note)


def _chain(steps):
    y = tg.ones(1, requires_grad=True)
    for step in steps:
        y = step(y)
    return y


def test_a_chain_of_50_000_nodes_draws_without_recursion():
    picture = viz.draw(_chain([lambda y: y + 1] * 50_000))
    assert _counts(picture) == [50_000] and picture.node_count == 3 and picture.edge_count == 2
    assert "100,001 nodes" in picture.note


def test_a_chain_without_any_order_draws_too():
    generator = random.Random(0)
    end = _chain(generator.choice([tg.exp, tg.sin, tg.tanh, tg.cos]) for _ in range(50_000))
    picture = viz.draw(end)
    assert picture.node_count <= 300 and "50,001 nodes" in picture.note


def test_folding_counts_every_operator_once():
    """Over random stacks of few kinds of layers: operators in folded boxes, times their counts, add up to those of the graph."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        kinds = [nn.Tanh, nn.ReLU, lambda: nn.Linear(2, 2)]
        model = nn.Sequential(*(nn.Sequential(kinds[k]()) for k in generator.integers(0, 2, 30)))
        x = tg.ones(1, 2)
        folded = viz.draw(model, x, fold=True, depth=1)
        whole = viz.draw(model, x, fold=False, depth=1)
        extra = [int(n) - 1 for n in re.findall(r'"[^"]*?(?:tanh|relu)[^"]*× (\d+), one after', folded.dot)]
        frames = [
            (int(n) - 1) * body.count("shape=box3d")
            for n, body in re.findall(r'label="× (\d+), one after the other"[^\n]*\n((?:.*shape=.*\n)*)', folded.dot)
        ]
        assert folded.node_count + sum(extra) + sum(frames) == whole.node_count


def test_the_text_tree_shows_a_folded_block_of_several_operators_as_one():
    """900 operators, every third a product: 300 blocks of three, and no operator is said to be there 300 times by itself."""
    z = y = tg.tensor(1.0, requires_grad=True)
    for i in range(900):
        z = z.sin() if i % 3 else z * y
    tree = [re.sub(r" \[n\d+\]", "", line) for line in str(viz.draw(z.exp(), names={"y": y})).splitlines()[1:]]
    assert tree == [
        "exp, float32",
        "  block of 3, × 300, one after the other",
        "    input: sin, float32",
        "      input: sin, float32",
        "        input: mul, float32",
        "          input: y float32",
        "          other: y float32",
    ]
    single = tg.tensor(1.0, requires_grad=True)
    for _ in range(900):
        single = single.sin()
    assert "sin, float32, × 900, one after the other" in str(viz.draw(single)) and "block of" not in str(viz.draw(single))


@pytest.mark.thorough
def test_finding_a_long_period_takes_time_in_proportion_to_the_length():
    """Blocks of 24 operators that all use one leaf: four times as many of them take about four times as long, not sixteen times."""
    seconds = []
    for length in (2500, 10_000):
        z = y = tg.tensor(1.0, requires_grad=True)
        for i in range(length):
            z = (z.sin() if i % 3 else z * y) if i % 7 else z.exp().log()
        graph = tg.graph.trace(z)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            picture = viz.draw(graph)
            times.append(time.perf_counter() - started)
        seconds.append(min(times))
        assert _counts(picture) == [length // 21]
    assert seconds[1] < 10 * seconds[0] + 0.5
