"""Step-through pages in a browser: every number on the screen, in operator views too, is the engine's."""

import math
import re
import time

import numpy as np
import pytest
from browser import browser_or_skip, keep_screenshot, screen, until
from explain_graphs import GRAPHS, first_page, lenet_page, open_all, step_of, to_the_end

import tinygrad_cv as tg
from tinygrad_cv import viz

browser = pytest.fixture(scope="module")(browser_or_skip)
lenet = pytest.fixture(scope="module")(lenet_page)
first = pytest.fixture(scope="module")(first_page)


def _shown(page, kind):
    """The exact numbers on the screen by node, of "value" or "gradient"."""
    return page.evaluate(
        """(kind) => Object.fromEntries([...document.querySelectorAll('[data-node] .node-' + kind)]
             .filter((e) => e.dataset.exact).map((e) => [e.closest('[data-node]').dataset.node, [e.dataset.exact, e.textContent]]))""",
        kind,
    )


def _same(shown, expected):
    """Whether the exact number on the screen, or its norm where there are several, is the engine's."""
    expected = np.asarray(expected, np.float64)
    match = re.fullmatch(r"(norm )?(.+)", shown)
    number = float(match[2])
    wanted = float(np.sqrt((expected**2).sum())) if match[1] else float(expected.reshape(()))
    return _close(number, wanted, rel_tol=1e-5 if match[1] else 1e-7, abs_tol=1e-12)  # norms have six digits


def _close(a, b, **tolerances):
    """math.isclose, and NaN is NaN."""
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, **tolerances)


def _read(text):
    """The number in a text for people."""
    return float(text.replace("−", "-").replace("∞", "inf").lstrip("‖·∑ "))


@pytest.mark.parametrize("name", GRAPHS)
def test_numbers_on_the_screen_are_the_engines(browser, tmp_path, name):
    loss, names = GRAPHS[name]()
    path = tmp_path / "page.html"
    viz.explain(loss, path, names=names, title=name)
    graph = tg.graph.trace(loss, names=names, values=True, grads=True)
    loss.backward()
    with screen(browser, path) as page:
        keep_screenshot(page, f"{name} start")
        open_all(page)
        assert not _shown(page, "gradient")  # nothing is told before its step
        to_the_end(page)
        values, gradients = _shown(page, "value"), _shown(page, "gradient")
        for node in graph:
            if node.value is not None and node.kind != "number" and node.id in values:
                exact, text = values[node.id]
                assert _same(exact, node.value), (node.id, node.op, exact)
                if node.value.size == 1:
                    assert _read(text) == pytest.approx(float(node.value.reshape(())), rel=1e-3, nan_ok=True)
            if node.grad is not None:
                exact, text = gradients[node.id]
                assert _same(exact, node.grad), (node.id, node.op, exact)
                if node.grad.size == 1:
                    assert _read(text) == pytest.approx(float(node.grad.reshape(())), rel=1e-3, nan_ok=True)
        assert set(values) >= {n.id for n in graph if n.kind == "operator"}
        for leaf, tensor in names.items():
            if tensor.is_leaf and tensor.requires_grad:
                (found,) = [n for n in graph if n.name == leaf]
                np.testing.assert_allclose(found.grad, tensor.grad.numpy(), rtol=1e-12)  # what backward() itself left
        _check_operator_views(page, graph)
        keep_screenshot(page, f"{name} end")


def _check_operator_views(page, graph):
    """Opens the view of every operator that has one, forward and backward: sums of products there are the engine's elements."""
    last = page.evaluate("explain.player.steps.length - 1")
    for node in graph:
        if node.kind != "operator":
            continue
        for position in (last, _forward_end(page), 0):
            page.evaluate(f"explain.player.go({position})")
            page.evaluate('(id) => explain.model && document.querySelector(`[data-node="${id}"]`).focus()', node.id)
            page.keyboard.press("Enter")
            if page.locator("#view-panel").is_hidden():
                break
            assert page.locator("#operator-view").get_attribute("data-op") == node.op
            ways = page.locator("#operator-view .view-tabs button")
            for way in range(max(1, ways.count())):
                if ways.count():
                    ways.nth(way).click()
                for total in page.evaluate(_TOTALS):
                    if total["computed"] is not None and total["exact"] is not None:
                        assert _close(total["computed"], total["exact"], rel_tol=1e-4, abs_tol=1e-6), (node.op, total)
                    assert "✗" not in total["text"], (node.op, total)
                    _compare_element(total, node, graph)
                    if position == 0:
                        assert total["exact"] is None and "?" in total["text"], (node.op, total)  # the play has not come there


_TOTALS = """() => [...document.querySelectorAll('#operator-view .view-sum')].map((p) => {
  const number = p.querySelector('.view-total');
  const read = (name) => (number.dataset[name] === undefined ? null : Number(number.dataset[name]));
  return { text: p.textContent, computed: read('computed'), exact: read('exact') };
})"""


def _compare_element(total, node, graph):
    """`output [0, 1]` or `gradient of weight [0, 1]`: that element of the engine's array."""
    match = re.match(r"(output|gradient of (\w+)) \[([\d, ]*)\]", total["text"])
    if match is None or total["exact"] is None:
        return
    if match[1] == "output":
        array = node.value
    else:
        (edge,) = [e for e in graph.inputs_of(node.id) if e.argument == match[2]]
        array = edge.grad
    element = array[tuple(int(i) for i in match[3].split(", ") if i)]
    assert _close(total["exact"], element, rel_tol=1e-6, abs_tol=1e-12), (node.op, total, element)


def _forward_end(page):
    """The last position of the forward pass."""
    return page.evaluate(
        "explain.player.steps.findLastIndex((s) => s.raw.every((r) => ['start', 'forward'].includes(explain.model.data.steps[r].pass)))"
    )


# -- numbers that are not finite, and no numbers at all ---------------------------------------------------------------------


def _page_of(tmp_path, name):
    loss, names = GRAPHS[name]()
    path = tmp_path / "page.html"
    viz.explain(loss, path, names=names)
    return path


def _open(page, condition):
    """Goes to the end and opens the first node for which a JavaScript condition on `n` holds."""
    to_the_end(page)
    page.evaluate(
        "(id) => document.querySelector(`[data-node='${id}']`).focus()",
        page.evaluate(f"explain.model.data.nodes.find((n) => {condition}).id"),
    )
    page.keyboard.press("Enter")


def test_what_is_not_finite_is_said_in_words(browser, tmp_path):
    with screen(browser, _page_of(tmp_path, "not finite")) as page:
        _open(page, "n.op === 'log'")
        # log of [0, NaN, inf, 1, 0]: only 1 has a place on the chart
        assert "4 elements are off the chart (not finite)" in page.locator("#operator-view").text_content()
        assert page.locator("#operator-view .view-point").count() == 1
        facts = page.locator("#inspector .facts").text_content()
        assert "normNaN" in facts and "(finite elements)" in facts
        assert "a gradient is not finite" in page.locator("#step-why").text_content().lower()
        assert "gradient norm NaN" in page.locator("[data-node]").first.get_attribute("aria-label")


def test_an_empty_tensor_is_called_empty(browser, tmp_path):
    with screen(browser, _page_of(tmp_path, "empty")) as page:
        _open(page, "n.name === 'none'")
        words = page.locator("#inspector").text_content()
        assert "empty" in words and "shape (0, 3)" in words and "NaN" not in words


def test_a_large_image_is_shown_whole(browser, tmp_path):
    rows = np.linspace(0, 1, 480, dtype=np.float32)
    image = tg.from_numpy(np.ascontiguousarray(np.broadcast_to(rows[:, None], (1, 3, 480, 480)))).requires_grad_()
    path = tmp_path / "image.html"
    viz.explain(image.relu().sum(), path, names={"image": image})
    with screen(browser, path) as page:
        _open(page, "n.name === 'image'")
        assert page.locator("#inspector .channels canvas").count() == 3
        assert re.search(r"every \d+th element along each side", page.locator("#inspector .facts").text_content())
        shades = page.evaluate(
            """() => [...document.querySelectorAll('#inspector .channels canvas')].map((c) => {
                 const { data } = c.getContext('2d').getImageData(0, 0, 1, c.height);
                 return [data[0], data[data.length - 4]]; })"""
        )
        assert all(top == 0 and bottom > 245 for top, bottom in shades), shades  # from black to white
        page.locator("#mode-heatmap").click()
        assert page.locator("#inspector input[type=number]").first.get_attribute("max") == "2"
        keep_screenshot(page, "large image")


# -- LeNet-5 ---------------------------------------------------------------------------------------------------------------


def test_every_array_on_the_page_of_lenet_is_the_engines(browser, lenet):
    path, loss = lenet
    graph = tg.graph.trace(loss, values=True, grads=True)
    with screen(browser, path) as page:
        arrays = page.evaluate(
            """() => explain.model.data.nodes.map((n) => [n.value, n.grad].map((k) => (k === null ? null :
                 { shape: explain.tensor(k).shape, stored: explain.tensor(k).stored, data: [...explain.tensor(k).data] })))"""
        )
    assert len(arrays) == len(graph)
    elements = 0
    for node, pair in zip(graph, arrays, strict=True):
        for stored, array in zip(pair, (node.value, node.grad), strict=True):
            assert (stored is None) == (array is None), node
            if array is not None:
                block = array[tuple(slice(0, n) for n in stored["stored"])]
                np.testing.assert_allclose(np.array(stored["data"]).reshape(block.shape), block, rtol=1e-6, atol=1e-12)
                elements += block.size
    assert elements > 2 * 61_706  # all weights, and their gradients


def test_weight_and_load_time_of_the_first_page_and_of_lenet(browser, first, lenet, capsys):
    for name, path in (("(x + y) * z", first), ("LeNet-5", lenet[0])):
        begun = time.perf_counter()
        with screen(browser, path) as page:
            seconds = time.perf_counter() - begun
            built = page.evaluate("Number(document.documentElement.dataset.loadMilliseconds)")
            steps = page.evaluate("explain.player.steps.length")
            slowest = page.evaluate(
                """() => Math.max(...explain.player.steps.map((_, i) => { const t = performance.now(); explain.player.go(i);
                     document.body.getBoundingClientRect(); return performance.now() - t; }))"""
            )
        size = path.stat().st_size
        with capsys.disabled():
            print(f"\n{name}: {size / 1e3:.0f} kB, shown {seconds:.2f} s after asking ({built:.0f} ms of it its own program), "
                  f"{steps} steps, slowest step {slowest:.0f} ms")  # fmt: skip
        assert size < (500_000 if path is first else 5_000_000)


def test_the_views_of_lenet_agree_with_the_engine(browser, lenet):
    path, loss = lenet
    graph = tg.graph.trace(loss, values=True, grads=True)
    with screen(browser, path) as page:
        open_all(page)
        _check_operator_views(page, graph)


def test_the_filter_slides(browser, lenet):
    path, loss = lenet
    graph = tg.graph.trace(loss, values=True, grads=True)
    first = graph.find(op="conv2d")[0]
    with screen(browser, path) as page:
        page.evaluate("explain.player.go(1)")
        view = page.locator("#operator-view")
        assert view.get_attribute("data-op") == "conv2d"
        view.get_by_label("filter (output channel)").select_option("3")
        slider = view.get_by_role("slider")
        for position in (0, 30, 783):
            slider.fill(str(position))
            row, column = divmod(position, 28)
            total = page.evaluate(_TOTALS)[0]
            assert total["text"].startswith(f"output [0, 3, {row}, {column}]")
            assert total["exact"] == pytest.approx(float(first.value[0, 3, row, column]), rel=1e-6)
        before = view.locator(".view-position").text_content()
        view.get_by_role("button", name="Play").click()
        until(page, f"document.querySelector('.view-position').textContent !== {before!r}")
        view.get_by_role("button", name="Pause").click()
        slider.focus()
        step = step_of(page)
        page.keyboard.press("Home")
        assert view.locator(".view-position").text_content() == "row 0, column 0" and step_of(page) == step
        keep_screenshot(page, "convolution view")
