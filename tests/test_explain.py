"""Step-through pages: the data on them is the engine's, the mathematics is right, the file is one safe, deterministic HTML text."""

import ast
import base64
import hashlib
import html
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinygrad_cv.viz.explain.arrays import leading_block
from tinygrad_cv.viz.explain.calculus import DERIVATIVES, FORMULAS, MATRIX_RULES
from tinygrad_cv.viz.explain.formulas import FormulaError, evaluate, parse, simplify
from tinygrad_cv.viz.explain.mathml import render, short_number, spoken
from tinygrad_cv.viz.explain.rules import derivative_tree, formula_tree, is_elementwise

import tinygrad_cv as tg
from tinygrad_cv import models, nn, viz
from tinygrad_cv.domain import NumpyDraw
from tinygrad_cv.testing import Sample


def data_of(page):
    """The JSON that a page holds."""
    (text,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', page.html, re.DOTALL)
    return json.loads(text)


def array_of(data, number):
    """A tensor of the page as an array."""
    entry = data["tensors"][number]
    if "numbers" in entry:
        return np.array([float(v) for v in entry["numbers"]], entry["dtype"]).reshape(entry["shape"])
    raw = np.frombuffer(base64.b64decode(entry["data"]), np.dtype(entry["encoding"]).newbyteorder("<"))
    return raw.reshape(entry["stored"])


def lecture():
    x, y, z = (tg.tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    return viz.explain(f, names={"x": x, "y": y, "z": z, "q": q, "f": f})


def test_the_lecture_example_step_by_step():
    # CS231n, backpropagation: f = (x + y) z at (-2, 5, -4).
    data = data_of(lecture())
    assert data["title"] == "f" and data["loss"] == "L"
    texts = [step["text"] for step in data["steps"]]
    assert texts[1:3] == ["q = x + y = −2 + 5 = 3", "f = q · z = 3 · (−4) = −12"]
    assert texts[4:8] == [
        "dL/dq = dL/df × df/dq = 1 × (−4) = −4",
        "dL/dz = dL/df × df/dz = 1 × 3 = 3",
        "dL/dx = dL/dq × dq/dx = (−4) × 1 = −4",
        "dL/dy = dL/dq × dq/dy = (−4) × 1 = −4",
    ]
    assert [spoken(s["local"]) for s in data["steps"][4:6]] == ["df/dq = z = −4", "df/dz = q = 3"]
    assert [s["pattern"] for s in data["steps"][4:8]] == ["multiply switches"] * 2 + ["add distributes"] * 2
    assert [s["pass"] for s in data["steps"]] == ["start", "forward", "forward", *["backward"] * 5, "end"]


def _graphs():
    tg.manual_seed(1)
    x = tg.randn(2, 1, 8, 8)
    conv = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4))
    target = tg.tensor([1, 3])
    u = tg.tensor(0.7, requires_grad=True)
    a = u * 3
    w = tg.randn(3, 3, requires_grad=True)
    row = tg.randn(3, requires_grad=True)
    values, _ = (w * row).sort()
    block = models.BasicBlock(3, 3)
    return {
        "scalars": a * a + a.sin() + u,
        "convolution": nn.functional.cross_entropy(conv(x), target),
        "matrices": ((w @ row).tanh() + w[0]).sum(),
        "two outputs": (values * values).mean(),
        "block": block(tg.randn(2, 3, 4, 4)).square().mean(),
    }


@pytest.mark.parametrize("name", ["scalars", "convolution", "matrices", "two outputs", "block"])
def test_every_number_is_the_engines(name):
    loss = _graphs()[name]
    graph = tg.graph.trace(loss, values=True, grads=True, local=True)
    data = data_of(viz.explain(loss))
    assert [n["id"] for n in data["nodes"]] == [n.id for n in graph]
    for shown, node in zip(data["nodes"], graph, strict=True):
        for key, array in (("value", node.value), ("grad", node.grad)):
            assert (shown[key] is None) == (array is None)
            if array is not None:
                assert np.array_equal(array_of(data, shown[key]), array)
    for shown, edge in zip(data["edges"], graph.edges, strict=True):
        assert (shown["source"], shown["target"], shown["position"]) == (edge.source, edge.target, edge.position)
        assert (shown["grad"] is None) == (edge.grad is None)
        if edge.grad is not None:
            assert np.array_equal(array_of(data, shown["grad"]), edge.grad)
        if shown["local"] is not None:
            upstream = graph[edge.target].grad
            assert np.allclose(array_of(data, shown["local"]) * upstream, edge.grad, rtol=1e-5, atol=1e-7)
    loss.backward()  # the page used nothing up
    for shown, node in zip(data["nodes"], graph, strict=True):
        if node.kind == "parameter" and node.grad is not None:
            uses = [e for e in data["edges"] if e["source"] == shown["id"] and e["grad"] is not None]
            assert np.allclose(sum(array_of(data, e["grad"]) for e in uses), node.grad, rtol=1e-4, atol=1e-6)


def test_gradients_are_those_that_backward_leaves_on_the_parameters():
    tg.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = tg.randn(5, 3)
    data = data_of(viz.explain(lambda x: (model(x) ** 2).mean(), x, names=dict(model.named_parameters())))
    (model(x) ** 2).mean().backward()
    shown = {n["name"]: n for n in data["nodes"] if n["kind"] == "parameter"}
    assert set(shown) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    for name, parameter in model.named_parameters():
        assert np.allclose(array_of(data, shown[name]["grad"]), parameter.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_steps_follow_execution_and_its_reverse_and_sums_come_last():
    data = data_of(viz.explain(_graphs()["scalars"]))
    operators = [n["id"] for n in data["nodes"] if n["kind"] == "operator"]
    assert [s["node"] for s in data["steps"] if s["kind"] == "operator"] == operators
    backward = [s["node"] for s in data["steps"] if s["kind"] == "edge"]
    assert sorted(set(backward), key=backward.index) == operators[::-1]
    edges = {e["id"]: e for e in data["edges"]}
    played = [s["edges"][0] for s in data["steps"] if s["kind"] == "edge"]
    assert sorted(played) == sorted(e["id"] for e in data["edges"] if e["grad"] is not None)
    sums = [(i, s) for i, s in enumerate(data["steps"]) if s["kind"] == "sum"]
    uses = {
        s: sum(e["source"] == s and e["grad"] is not None for e in data["edges"]) for s in {e["source"] for e in data["edges"]}
    }
    assert {s["node"] for _, s in sums} == {node for node, count in uses.items() if count > 1}
    for i, step in sums:
        before = [k for k, s in enumerate(data["steps"]) if s["kind"] == "edge" and s["edges"][0] in step["edges"]]
        assert len(before) == uses[step["node"]] and max(before) < i
        assert all(edges[e]["source"] == step["node"] for e in step["edges"]) and step["pattern"] == "gradients add"


def test_where_gradients_meet_they_are_written_as_a_sum():
    u = tg.tensor(3.0, requires_grad=True)
    v = tg.tensor(2.0, requires_grad=True)
    a = u * v
    r = a * (a + u)
    texts = [s["text"] for s in data_of(viz.explain(r, names={"u": u, "v": v, "a": a, "r": r}))["steps"] if s["kind"] == "sum"]
    # r = a (a + u), a = u v: dr/da = 2 a + u = 15, of which 9 through the product and 6 through the sum; dr/du = a + 15 v = 36.
    assert "= 9 + 6 = 15" in texts[0].replace("6 + 9", "9 + 6") and "36" in texts[1]


def test_an_output_that_is_used_again_starts_with_one_and_adds():
    x = tg.tensor(2.0, requires_grad=True)
    a = x * 3
    b = a * a

    def both(x):
        a = x * 3
        return a, a * a

    data = data_of(viz.explain(both, x))
    node = next(n for n in data["nodes"] if n["id"] == data["outputs"][0])
    assert float(array_of(data, node["grad"])) == 1 + 2 * a.item() and b.item() == 36
    (total,) = [s for s in data["steps"] if s["kind"] == "sum"]
    assert "1 + 6 + 6 = 13" in total["text"]


def test_results_of_many_elements_start_with_ones_and_say_so():
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2
    data = data_of(viz.explain(y))
    (seed,) = [s for s in data["steps"] if s["kind"] == "seed"]
    assert "sum of the elements of y" in seed["why"]
    assert array_of(data, data["nodes"][-1]["grad"]).tolist() == [1, 1, 1]


def test_what_requires_no_gradient_plays_forward_only_and_says_so():
    page = viz.explain(lambda a, b: a * b + 1, tg.tensor(2.0), tg.tensor(4.0))
    data = data_of(page)
    assert "forward only" in data["note"] and {s["pass"] for s in data["steps"]} == {"start", "forward"}
    assert [s["text"] for s in data["steps"][1:]] == ["c = a · b = 2 · 4 = 8", "g = c + 1 = 8 + 1 = 9"]


def test_a_function_runs_once_and_its_arguments_are_named():
    calls = []

    def product(left, right):
        calls.append(1)
        return (left * right).sum()

    data = data_of(viz.explain(product, tg.ones(2, requires_grad=True), tg.ones(2)))
    assert len(calls) == 1 and [n["name"] for n in data["nodes"] if n["kind"] != "operator"] == ["left", "right"]


def test_names_are_those_of_the_caller_and_temporaries_get_letters():
    weight_first = tg.tensor(2.0, requires_grad=True)
    x1 = tg.tensor(3.0)
    a = tg.tensor(1.0)
    data = data_of(viz.explain((weight_first * x1 + a) * 2))
    symbols = [(n["symbol"], n["subscript"]) for n in data["nodes"]]
    assert ("weight_first", "") in symbols and ("x", "1") in symbols and ("a", "") in symbols
    letters = [n["symbol"] for n in data["nodes"] if n["kind"] == "operator"]
    assert len(set(letters)) == 3 and "a" not in letters and "L" not in letters


def test_the_loss_symbol_gives_way_to_the_users_own_L():
    L = tg.tensor(2.0, requires_grad=True)
    assert data_of(viz.explain(L * 3))["loss"] == "J"


def test_two_runs_give_the_same_bytes_also_with_other_hash_seeds():
    assert lecture().html == lecture().html
    program = (
        "import tinygrad_cv as tg, hashlib; from tinygrad_cv import viz, nn; tg.manual_seed(0); "
        "m = nn.Sequential(nn.Linear(2, 3), nn.ReLU()); x = tg.randn(4, 2); "
        "print(hashlib.sha256(viz.explain(m, x).html.encode()).hexdigest())"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(min_size=1, max_size=20),
    other=st.sampled_from(["</script>", "<!--", "a::b", "<lambda>", "\u2028", "&lt;", "]]>", "\ud800"]),
)
def test_any_name_arrives_unchanged_and_ends_no_element(name, other):
    x = tg.tensor(1.0, requires_grad=True)
    y = tg.tensor(2.0, requires_grad=True)
    page = viz.explain(x * y, names={name: x, name + other: y}, title=name + other)
    data = data_of(page)
    assert [n["name"] for n in data["nodes"]][:2] == [name, name + other] and data["title"] == name + other
    assert len(re.findall("<script", page.html)) == 2 and len(re.findall("</script", page.html)) == 2
    assert "<!--" not in page.html
    page.html.encode()  # and it can be written


def test_the_page_asks_nothing_of_the_network_and_its_policy_fits():
    page = lecture().html
    addresses = set(re.findall(r"https?://[^\s\"'<>`)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1998/Math/MathML"}
    assert (
        not re.search(r"\b(src|href)\s*=\s*[\"'](?!#)", page)
        and "@import" not in page
        and "url(" not in page.replace("url(#", "")
    )
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for kind, texts in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert len(texts) == 1 and f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"\.innerHTML|insertAdjacentHTML|\beval\(|new Function", script[0])
    assert len(page.encode()) < 400_000


def test_saving_makes_the_folder_and_a_failure_leaves_no_file(tmp_path, monkeypatch):
    page = lecture()
    path = page.save(tmp_path / "deep" / "page.html")
    assert path.read_text("utf-8") == page.html and page.path == path
    for wrong in ("page.png", "page"):
        with pytest.raises(ValueError, match=r"must end in \.html"):
            page.save(tmp_path / "other" / wrong)
    assert not (tmp_path / "other").exists()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="cannot write"):
        page.save(tmp_path / "third" / "page.html")
    assert not list((tmp_path / "third").iterdir())


def test_a_wrong_file_name_is_refused_before_any_work(tmp_path):
    ran = []
    with pytest.raises(ValueError, match=r"explain: .*must end in \.html"):
        viz.explain(lambda x: ran.append(x), tg.ones(1), str(tmp_path / "page.svg"))
    with pytest.raises(TypeError, match="one file"):
        viz.explain(lambda x: ran.append(x), tg.ones(1), "a.html", path="b.html")
    assert not ran


def test_a_freed_graph_is_refused_by_name_and_a_retained_one_is_not():
    x = tg.tensor(2.0, requires_grad=True)
    loss = (x * x).exp()
    loss.backward(retain_graph=True)
    viz.explain(loss)
    loss.backward()
    with pytest.raises(RuntimeError, match=r"explain: backward has already passed.*before backward.*retain_graph=True"):
        viz.explain(loss)
    assert x.grad.item() == pytest.approx(2 * 4 * math.exp(4))


def test_wrong_targets_are_named():
    with pytest.raises(TypeError, match="explain: expected a Tensor"):
        viz.explain(3)
    with pytest.raises(TypeError, match="explain: inputs go with"):
        viz.explain(tg.ones(1, requires_grad=True) * 2, tg.ones(1))
    with pytest.raises(TypeError, match="explain: what is called must return a Tensor or several, got bool"):
        viz.explain(lambda a: True, tg.ones(1))
    with pytest.raises(TypeError, match="explain: LeNet5 cannot be called with the 0 inputs"):
        viz.explain(models.lenet5())
    x = tg.ones(1, requires_grad=True)
    y = x
    for _ in range(6_000):
        y = y + 1
    with pytest.raises(ValueError, match=r"explain: 12,001 nodes are more than a page can play.*draw"):
        viz.explain(y)


def test_lenet_on_a_digit_is_folded_by_layer_and_stays_small():
    tg.manual_seed(0)
    model = models.lenet5()
    image = tg.rand(1, 1, 28, 28)
    page = viz.explain(nn.functional.cross_entropy(model(image), tg.tensor([7])))
    data = data_of(page)
    folded = {c["label"] for c in data["clusters"] if c["collapsed"]}
    assert folded == {"features.0", "features.3", "classifier.0", "classifier.2", "classifier.4"}
    inside = {c["id"]: c["label"] for c in data["clusters"]}
    weight = next(n for n in data["nodes"] if (n["name"] or "").endswith("features.0.weight"))
    assert inside[weight["cluster"]] == "features.0"
    assert all(
        data["tensors"][n[k]].get("stored", 1) in (1, n["shape"]) for n in data["nodes"] for k in ("value", "grad") if n[k]
    )
    assert len(page.html.encode()) < 5_000_000


def test_a_module_that_is_used_twice_is_two_boxes():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Sequential(nn.Linear(2, 2), nn.Tanh())

        def forward(self, x):
            return self.cell(self.cell(x)).sum()

    data = data_of(viz.explain(Twice(), tg.ones(1, 2)))
    labels = [c["label"] for c in data["clusters"]]
    assert "cell" in labels and "cell (use 2)" in labels
    places = {n["id"]: n["cluster"] for n in data["nodes"]}
    weight = next(n for n in data["nodes"] if (n["name"] or "").endswith("weight"))
    assert len([e for e in data["edges"] if e["source"] == weight["id"]]) == 2 and places[weight["id"]] is None


def test_long_chains_fold_into_parts_without_recursion():
    x = tg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(1_500):
        y = y * 1.0
    data = data_of(viz.explain(y))
    parents = {c["id"]: c["parent"] for c in data["clusters"]}
    closed = {c["id"] for c in data["clusters"] if c["collapsed"]}

    def box(node):
        line, key = [], node["cluster"]
        while key:
            line.append(key)
            key = parents[key]
        return next((k for k in reversed(line) if k in closed), node["id"])

    assert len({box(n) for n in data["nodes"]}) <= 60
    assert sum(s["kind"] == "operator" for s in data["steps"]) == 1_500


def test_large_arrays_are_cut_with_figures_of_the_whole():
    tg.manual_seed(2)
    big = tg.randn(1200, 1200, requires_grad=True)
    data = data_of(viz.explain((big * 2).sum()))
    entry = data["tensors"][data["nodes"][0]["value"]]
    values = big.detach().numpy()
    assert entry["shape"] == [1200, 1200] and entry["stored"][0] < 1200
    assert np.array_equal(array_of(data, data["nodes"][0]["value"]), values[: entry["stored"][0], : entry["stored"][1]])
    assert entry["stats"]["maximum"] == pytest.approx(values.max(), rel=1e-5)
    assert entry["stats"]["norm"] == pytest.approx(np.linalg.norm(values.astype(np.float64)), rel=1e-5)
    assert sum(entry["histogram"]) == values.size


def picture_of(entry):
    """The thinned-out picture of a large array, as numbers."""
    picture = entry["picture"]
    levels = np.frombuffer(base64.b64decode(picture["data"]), np.uint8).reshape(picture["stored"])
    shown = picture["low"] + levels / 254 * (picture["high"] - picture["low"])
    return np.where(levels == 255, np.nan, shown), picture["steps"]


@pytest.mark.parametrize("signed", [True, False])
def test_a_large_image_is_shown_whole_as_every_kth_element(signed):
    tg.manual_seed(3)
    image = tg.randn(1, 3, 672, 672) if signed else tg.rand(1, 3, 672, 672)
    values = image.numpy().copy()
    values[0, 1, 0, 0] = np.nan
    data = data_of(viz.explain((tg.from_numpy(values).requires_grad_() * 2).sum()))
    entry = data["tensors"][data["nodes"][0]["value"]]
    assert entry["stored"][-2:] != entry["shape"][-2:]  # else there is no need of one
    shown, (down, across) = picture_of(entry)
    assert shown.shape[0] == 3 and max(shown.shape[1:]) <= 64 and down == across
    expected = values[0, :, ::down, ::across]
    assert np.isnan(shown[1, 0, 0]) and np.isnan(expected[1, 0, 0])
    np.testing.assert_allclose(shown, expected, atol=np.nanmax(np.abs(expected)) / 250)


def test_resnet18_shows_its_whole_image_and_stays_below_six_megabytes():
    tg.manual_seed(0)
    image = tg.rand(1, 3, 224, 224)
    page = viz.explain(nn.functional.cross_entropy(models.create("resnet18").eval()(image), tg.tensor([3])))
    data = data_of(page)
    relu = next(n for n in data["nodes"] if n["op"] == "relu" and n["shape"] == [1, 64, 112, 112])
    fed = next(n for n in data["nodes"] if n["shape"] == [1, 3, 224, 224] and n["kind"] == "input")
    assert picture_of(data["tensors"][fed["value"]])[0].shape == (3, 56, 56)
    assert picture_of(data["tensors"][relu["value"]])[0].shape[1:] == (56, 56)
    assert len(page.html.encode()) < 6_000_000


@pytest.mark.parametrize("length", [3, 100])  # stored as numbers, and with figures
def test_the_norm_of_numbers_that_are_not_finite_is_not_finite(length):
    for odd, shown, words in ((math.nan, "NaN", "NaN"), (math.inf, "Infinity", "∞"), (-math.inf, "Infinity", "∞")):
        a = tg.tensor([odd, *[1.0] * (length - 1)], requires_grad=True)
        data = data_of(viz.explain((a * a).sum()))
        end = data["steps"][-1]
        assert f"= {words}" in end["text"], end["text"]
        assert "not finite" in end["why"] and "smaller" not in end["why"]
        if length > 64:
            assert data["tensors"][data["nodes"][0]["value"]]["stats"]["norm"] == shown


def test_the_end_promises_a_smaller_loss_only_where_a_step_makes_it_so():
    def why(loss):
        return data_of(viz.explain(loss))["steps"][-1]["why"]

    x = tg.tensor([1.0, 2.0], requires_grad=True)
    assert why((x * x).sum()) == "A small step of a leaf against its gradient makes L smaller."
    assert why((x * 0).sum()) == "Every gradient is 0: a small step of a leaf changes nothing."
    assert "A gradient is not finite" in why((x * math.nan).sum())
    assert why((x + math.inf).sum()).startswith("L is not finite")


def test_huge_numbers_give_a_page_too():
    x = tg.tensor([1e308] * 100, dtype=tg.float64, requires_grad=True)
    entry = data_of(viz.explain(x.sum()))["tensors"][0]
    assert entry["stats"]["norm"] == "Infinity" or entry["stats"]["norm"] > 1e308


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 5000))
def test_a_leading_block_fits_the_limit_and_the_shape(shape, limit):
    stored = leading_block(tuple(shape), limit)
    assert all(1 <= s <= n for s, n in zip(stored, shape, strict=True)) and math.prod(stored) <= limit
    assert stored == tuple(shape) or math.prod(shape) > limit


def test_odd_numbers_survive():
    x = tg.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-30], requires_grad=True)
    data = data_of(viz.explain(x * 1.0))
    assert np.array_equal(array_of(data, data["nodes"][0]["value"]), x.detach().numpy(), equal_nan=True)
    viz.explain(tg.zeros(3, 0, requires_grad=True) * 2)  # nothing at all
    halves = tg.arange(70, dtype=tg.int64).reshape(7, 10)
    data = data_of(viz.explain(lambda a: a * 2, halves))
    assert np.array_equal(array_of(data, data["nodes"][0]["value"]), halves.numpy())


def test_random_operators_are_shown_where_the_call_was_seen_and_said_to_be_missing_where_not():
    tg.manual_seed(4)
    x = tg.ones(2, 4, requires_grad=True)
    dropped = data_of(viz.explain(nn.functional.dropout(x, 0.5).sum()))
    assert "not kept" in dropped["note"] and "dropout" in dropped["note"]
    assert dropped["nodes"][-1]["value"] is not None  # the result itself is there
    seen = data_of(viz.explain(lambda x: nn.functional.dropout(x, 0.5).sum(), x))
    assert seen["note"] == "" and all(n["value"] is not None for n in seen["nodes"])


def test_operators_that_ran_without_recording_stand_beside_those_that_did():
    x = tg.ones(2, requires_grad=True)

    def scaled(x):
        with tg.no_grad():
            scale = (x * 2).sum()
        return (x * scale).sum()

    data = data_of(viz.explain(scaled, x))
    assert [n["op"] for n in data["nodes"] if n["kind"] == "operator"] == ["mul", "sum", "mul", "sum"]
    assert array_of(data, data["nodes"][0]["grad"]).tolist() == [4, 4]


def test_a_notebook_shows_the_page_itself():
    page = lecture()
    (srcdoc,) = re.findall(r'srcdoc="([^"]*)"', page._repr_html_())
    assert html.unescape(srcdoc) == page.html and 'sandbox="allow-scripts"' in page._repr_html_()
    assert repr(page).startswith("<Page: f, 5 nodes, ")


def test_only_the_public_graph_api_is_used():
    for path in (Path(viz.__file__).parent / "explain").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tinygrad_cv."):
                assert node.module in ("tinygrad_cv.graph", "tinygrad_cv.files"), f"{path.name} imports {node.module}"
            if isinstance(node, ast.Attribute):
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                own = isinstance(node.value, ast.Name) and node.value.id == "self"
                assert not private or own, f"{path.name} touches {node.attr}"


# The mathematics ------------------------------------------------------------------------------------------------------

_RANGES = {"acosh": (1.2, 2.0), "acos": (0.1, 0.8), "asin": (0.1, 0.8), "atanh": (0.1, 0.8), "logit": (0.2, 0.8)}


def _sample(name, generator):
    """(operator, tensors by parameter, attributes) at a place where it is smooth."""
    operator = tg.registry.get(name)
    low, high = _RANGES.get(name, (0.3, 1.7))
    parameters = [p for p in operator.tensor_params if p not in ("min", "max")]
    tensors = {p: tg.tensor(generator.uniform(low, high), dtype=tg.float64, requires_grad=True) for p in parameters}
    return operator, {**tensors, **({"min": tg.tensor(0.1), "max": tg.tensor(1.9)} if name == "clamp" else {})}


@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_every_derivative_shown_is_that_of_the_engine(name):
    generator = np.random.default_rng(sum(map(ord, name)))
    for sign in (
        (1, -1)
        if name in ("abs", "relu", "elu", "leaky_relu", "square", "sin", "tanh", "sigmoid", "mul", "div", "pow2")
        else (1,)
    ):
        _, tensors = _sample(name, generator)
        tensors = {p: (t * sign).detach().requires_grad_() if sign < 0 else t for p, t in tensors.items()}
        out = getattr(tg, name)(**tensors)
        graph = tg.graph.trace(out, values=True, grads=True, local=True)
        (node,) = [n for n in graph if n.kind == "operator"]
        attributes = {k: v for k, v in node.attributes.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        known = {**attributes, **{p: t.item() for p, t in tensors.items()}, "out": out.item()}
        for edge in graph.inputs_of(node.id):
            if edge.local is None:
                continue
            written = DERIVATIVES[name][edge.argument]
            assert evaluate(simplify(parse(written), {}), known) == pytest.approx(float(edge.local), rel=1e-9, abs=1e-12), (
                written
            )
            render(parse(written))


def test_every_formula_that_reads_gives_the_operators_value():
    generator = np.random.default_rng(0)
    checked = []
    for name in sorted(DERIVATIVES):
        operator, tensors = _sample(name, generator)
        out = getattr(tg, name)(**tensors)
        try:
            tree = parse(FORMULAS.get(name, operator.formula))
        except FormulaError:
            continue
        (node,) = [n for n in tg.graph.trace(out) if n.kind == "operator"]
        attributes = {k: v for k, v in node.attributes.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        tree = simplify(tree, attributes)
        assert evaluate(tree, {p: t.item() for p, t in tensors.items()}) == pytest.approx(out.item(), rel=1e-9), name
        checked.append(name)
    assert len(checked) >= len(DERIVATIVES) - 6, sorted(set(DERIVATIVES) - set(checked))


def _drawn(operator, seed):
    """The graph of one call drawn from the operator's domain, in float64; None where it gives no tensor."""
    sample = Sample(operator, operator.domain(NumpyDraw(np.random.default_rng([7, seed]))), seed)
    tensors = [tg.tensor(a) for a in sample.cast(np.float64)]
    for i in sample.differentiable():
        tensors[i].requires_grad_()

    def call():
        args, kwargs = sample.arguments(tensors)
        return operator.function(*args, **kwargs)

    try:
        page = viz.explain(call)
    except TypeError as error:
        assert "must return a Tensor" in str(error)
        return None
    return data_of(page), page.graph


def test_every_operator_is_explained_and_what_is_written_about_it_holds():
    derivatives = formulas = 0
    for operator in tg.registry.operators(plugins=False):
        if operator.internal:
            continue
        for seed in range(2):
            drawn = _drawn(operator, seed)
            if drawn is None:
                continue
            data, graph = drawn
            at = {s["node"]: s["element"] for s in data["steps"] if s["kind"] == "operator"}
            for node in graph:
                if node.kind != "operator" or node.value is None or not node.value.size:
                    continue
                edges = graph.inputs_of(node.id)
                place = tuple(at[node.id])
                known = {e.argument: _element(graph, e, node, place) for e in edges}
                tree = formula_tree(node, edges, graph)
                if (
                    tree is not None
                    and is_elementwise(node)
                    and None not in known.values()
                    and not math.isnan(node.value[place])
                ):
                    got = evaluate(tree, known)
                    assert got == pytest.approx(float(node.value[place]), rel=1e-8, abs=1e-10), (operator.name, node.op, known)
                    formulas += 1
                for edge in edges:
                    tree = derivative_tree(node, edge, graph)
                    if edge.local is None or edge.local.shape != node.shape or tree is None or None in known.values():
                        continue
                    got = evaluate(tree, {**known, "out": float(node.value[place])})
                    assert got == pytest.approx(float(edge.local[place]), rel=1e-7, abs=1e-9), (node.op, edge.argument, known)
                    derivatives += 1
    assert derivatives > 150 and formulas > 200


def _element(graph, edge, node, place):
    """The element of an argument that the element `place` of the result comes from."""
    value = graph[edge.source].value
    try:
        return float(np.broadcast_to(value, node.shape)[place])
    except (TypeError, ValueError, IndexError):
        return None


def test_all_rules_of_matrices_read():
    for rules in MATRIX_RULES.values():
        for text in rules.values():
            assert render(parse(text))[0] in ("mrow", "mfrac", "mi", "msup", "msub")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1 / (1 + e^-input)", "1/(1 + e^(−input))"),
        ("a - (b - c)", "a − (b − c)"),
        ("a * (b + c)", "a · (b + c)"),
        ("sqrt(x ** 2 + 1)", "sqrt(x^2 + 1)"),
        ("-x^2", "−x^2"),
        ("(-x)^2", "(−x)^2"),
        ("a / b / c", "(a/b)/c"),
        ("max(min(x, 6), 0)", "max\u2061(min\u2061(x, 6), 0)"),
    ],
)
def test_formulas_are_written_with_the_brackets_they_need(text, shown):
    assert spoken(render(parse(text))) == shown


def test_fractions_powers_and_roots_are_mathml():
    assert render(parse("a / b")) == ["mfrac", ["mi", "a"], ["mi", "b"]]
    assert render(parse("a ^ 2")) == ["msup", ["mi", "a"], ["mn", "2"]]
    assert render(parse("sqrt(a)")) == ["msqrt", ["mi", "a"]]


_leaf = st.sampled_from([("name", "x"), ("name", "y"), ("number", "2"), ("number", "0.5"), ("number", "1"), ("number", "0")])
_trees = st.recursive(
    _leaf, lambda inner: st.tuples(st.sampled_from("+-*"), inner, inner) | st.tuples(st.just("negative"), inner), max_leaves=8
)


@given(_trees, st.floats(-3, 3), st.floats(-3, 3))
def test_simplifying_keeps_the_number_and_what_is_written_reads_back(tree, x, y):
    known = {"x": x, "y": y}
    expected = evaluate(tree, known)
    assert evaluate(simplify(tree, {}), known) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    written = spoken(render(tree)).replace("−", "-").replace("·", "*")
    assert evaluate(parse(written), known) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.text(alphabet="abx12 +-*/^()[]{}|,<>=_.", max_size=30))
def test_reading_a_formula_gives_a_tree_or_one_named_error(text):
    try:
        render(parse(text))
    except FormulaError:
        pass


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_short_numbers_keep_four_digits(value):
    text = short_number(value).replace("−", "-")
    assert float(text) == pytest.approx(value, rel=5.01e-4, abs=1e-60)
    assert len(text) <= 11


def test_short_numbers_are_as_people_write_them():
    shown = [short_number(v) for v in (0, -4, 0.1966119, 12345, 1234567, 1e-5, -0.5, 99999.6, math.nan, -math.inf)]
    assert shown == ["0", "−4", "0.1966", "12345", "1.235e6", "1e−5", "−0.5", "100000", "NaN", "−∞"]


# What is seen -----------------------------------------------------------------------------------------------------------


def _themes():
    """The CSS variables of the light and of the dark theme."""
    css = (Path(viz.__file__).parent / "explain" / "static" / "page.css").read_text("utf-8")
    (light,) = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    (dark,) = re.findall(r':root\[data-theme="dark"\] \{(.*?)\}', css, re.DOTALL)
    (preferred,) = re.findall(r':root:not\(\[data-theme="light"\]\) \{(.*?)\}', css, re.DOTALL)
    read = [dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", block)) for block in (light, dark, preferred)]
    assert read[1] == read[2] and set(read[0]) == set(read[1])
    return read[:2]


def _luminance(colour):
    """WCAG 2.1, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one, other):
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_keep_the_contrast_that_wcag_asks_for(theme):
    colours = _themes()[theme]
    grounds = ("paper", "panel", "operator", "leaf", "input", "layer", "frame")
    for text in ("ink", "muted", "value", "gradient"):
        for ground in grounds:
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert _contrast(colours["ink"], colours["lit"]) >= 4.5 and _contrast(colours["accent-ink"], colours["accent"]) >= 4.5
    for line in ("line-strong", "operator-line", "leaf-line", "input-line", "layer-line", "lit-line", "accent"):
        assert _contrast(colours[line], colours["paper"]) >= 3, line
