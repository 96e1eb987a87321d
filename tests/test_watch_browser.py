"""The report in a browser: its numbers are the recording's, every control works, it says nothing to anyone."""

import math
import time
from itertools import pairwise

import pytest
from browser import browser_or_skip, contrast, keep_screenshot, screen

import tinygrad_cv as tg
from tinygrad_cv import data, models, nn, optim, viz

F = nn.functional
browser = pytest.fixture(scope="module")(browser_or_skip)


def _run(rate, steps=90):
    """LeNet-5 on a few digits, with an examination at the end."""
    tg.manual_seed(0)
    digits = data.Subset(data.MNIST(train=True, normalize=True), range(1200))
    model = models.lenet5()
    monitor = viz.TrainingMonitor(model, optim.Adam(model.parameters(), lr=rate), every=3, classes=10, title="LeNet-5 <b>&")
    loader = iter(())
    for step in range(1, steps + 1):
        batch = next(loader, None)
        if batch is None:
            loader = iter(data.DataLoader(digits, 40, shuffle=True))
            batch = next(loader)
        monitor.optimizer.zero_grad()
        scores = model(batch[0])
        loss = F.cross_entropy(scores, batch[1])
        loss.backward()
        monitor.optimizer.step()
        monitor.step(loss, accuracy=(scores.argmax(1) == batch[1]).float().mean().item())
        if step % 30 == 0:
            monitor.epoch(
                train_loss=loss.item(),
                train_accuracy=0.5 + step / 300,
                val_loss=loss.item() + 0.1,
                val_accuracy=0.5 + step / 400,
            )
    monitor.finish()
    monitor.examine(data.DataLoader(data.Subset(digits, range(200)), 100))
    return monitor


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    monitor = _run(2e-3)
    path = tmp_path_factory.mktemp("report") / "good.html"
    monitor.save(path)
    return monitor, path


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    monitor = _run(0.3)
    path = tmp_path_factory.mktemp("report") / "bad.html"
    monitor.save(path)
    return monitor, path


def _legend(page, title):
    """The values in the legend of the chart called `title`, by line."""
    script = """(title) => Object.fromEntries([...[...document.querySelectorAll('figure')].find((f) =>
      f.querySelector('h3').textContent === title).querySelectorAll('.legend button')].map((b) =>
      [b.querySelector('.name').textContent, b.querySelector('.value').textContent]))"""
    return page.evaluate(script, title)


def _chart(page, title):
    return page.locator("figure", has=page.locator("h3", has_text=title)).first.locator("svg.chart")


def _number(text):
    return math.nan if text == "–" else float(text.removesuffix(" %")) / (100 if text.endswith("%") else 1)


def test_the_page_loads_quickly_and_shows_the_last_numbers(browser, good):
    monitor, path = good
    started = time.monotonic()
    with screen(browser, path) as page:
        assert time.monotonic() - started < 20  # two seconds on a quiet machine; this one may be busy
        assert page.title() == "Training of LeNet-5 <b>&" and page.locator("h1").inner_text() == "Training of LeNet-5 <b>&"
        ratios = _legend(page, "Update-to-weight ratio")
        last = monitor.recording.samples[-1]["parameters"]
        assert list(ratios) == monitor.recording.matrices()
        for name, text in ratios.items():
            assert _number(text) == pytest.approx(last[name]["ratio"], rel=0.06)
        assert _number(_legend(page, "Loss")["validation"]) == pytest.approx(monitor.recording.epochs[-1]["val_loss"], rel=0.01)
        assert _legend(page, "Accuracy")["validation"] == "72.5 %"
        assert _number(_legend(page, "Gradient norms")["all together"]) == pytest.approx(
            monitor.recording.samples[-1]["grad_norm"], rel=0.06
        )
        assert page.locator(".layer").count() == len(monitor.recording.layers)
        cells = page.locator("#confusion tbody td").all_inner_texts()
        assert [0 if c == "·" else int(c) for c in cells] == [v for row in monitor.example["confusion"]["counts"] for v in row]
        assert page.locator("#filters canvas").count() == 6 and page.locator("#epochs tbody tr").count() == 3
        keep_screenshot(page, "report good")


def test_pointing_tells_the_numbers_of_that_step_in_every_chart(browser, good):
    monitor, path = good
    with screen(browser, path) as page:
        chart = _chart(page, "Gradient norms")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
        shown = int(page.locator("#range").inner_text().rsplit(" ", 1)[1])
        sample = [s for s in monitor.recording.samples if s["step"] <= shown][-1]
        for name, text in _legend(page, "Gradient norms").items():
            wanted = sample["grad_norm"] if name == "all together" else sample["parameters"][name]["grad_norm"]
            assert _number(text) == pytest.approx(wanted, rel=0.06), name
        about = page.locator(".layer").first.locator("dd").first.inner_text()
        assert _number(about.replace("−", "-")) == pytest.approx(sample["layers"]["features.0"]["mean"], rel=0.06, abs=1e-3)
        page.mouse.move(2, 2)
        assert "at" not in page.locator("#range").inner_text()


def test_dragging_zooms_every_chart_and_double_click_shows_all(browser, good):
    _, path = good
    with screen(browser, path) as page:
        chart = _chart(page, "Loss")
        box = chart.bounding_box()
        left, width = box["x"] + 52, box["width"] - 62
        page.mouse.move(left + 0.25 * width, box["y"] + 80)
        page.mouse.down()
        page.mouse.move(left + 0.75 * width, box["y"] + 80, steps=4)
        page.mouse.up()
        first, last = (int(w) for w in page.locator("#range").inner_text().split(",")[0].removeprefix("Steps ").split(" to "))
        assert abs(first - (1 + 0.25 * 89)) <= 2 and abs(last - (1 + 0.75 * 89)) <= 2
        ticks = [int(t) for t in _chart(page, "Gradient norms").locator("text[text-anchor=middle]").all_text_contents()]
        assert ticks and all(first <= t <= last for t in ticks)
        chart.dblclick(position={"x": 300, "y": 80})
        assert page.locator("#range").inner_text().startswith("Steps 1 to 90")


def test_buttons_and_keys_zoom_and_move(browser, good):
    _, path = good
    with screen(browser, path) as page:
        shown = lambda: page.locator("#range").inner_text()  # noqa: E731
        page.locator("#zoom-in").click()
        assert shown() == "Steps 24 to 67"
        page.locator("#zoom-right").click()
        assert shown().startswith("Steps 42 to 85")
        page.locator("#zoom-all").click()
        assert shown() == "Steps 1 to 90"
        chart = _chart(page, "Loss")
        chart.focus()
        page.keyboard.press("Home")
        assert shown().endswith("at 1")
        page.keyboard.press("ArrowRight")
        assert shown().endswith("at 2")
        page.keyboard.press("End")
        page.keyboard.press("+")
        assert shown().endswith("at 90") and not shown().startswith("Steps 1 ")
        page.keyboard.press("Escape")
        assert shown() == "Steps 1 to 90"
        logarithmic = page.get_by_role("button", name="logarithmic").first
        logarithmic.click()
        assert logarithmic.get_attribute("aria-pressed") == "true"


def test_the_legend_takes_lines_away_and_brings_them_back(browser, good):
    _, path = good
    with screen(browser, path) as page:
        chart = _chart(page, "Update-to-weight ratio")
        button = page.get_by_role("button", name="features.0.weight").first
        before = chart.locator("path[data-line]").count()
        button.click()
        assert button.get_attribute("aria-pressed") == "false" and chart.locator("path[data-line]").count() == before - 1
        button.click()
        assert chart.locator("path[data-line]").count() == before


def test_problems_come_first_with_their_evidence(browser, bad):
    monitor, path = bad
    with screen(browser, path) as page:
        findings = monitor.findings()
        assert findings and page.locator("#findings .check").count() == len(findings)
        text = page.locator("#findings").inner_text()
        for check in findings:
            assert check.rule in text and check.advice in text
            for what, value in check.evidence:
                assert what in text and value in text
        assert page.locator("#others .check").count() == len(monitor.checks()) - len(findings)
        assert not page.locator("#others .check").first.is_visible()
        page.locator("summary").click()
        assert page.locator("#others .check").first.is_visible()
        keep_screenshot(page, "report bad")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off_and_every_text_has_contrast(browser, bad, scheme):
    _, path = bad
    with screen(browser, path, "phone", scheme) as page:
        page.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(
            "[...document.querySelectorAll('.toolbar button')].every((b) => b.offsetHeight >= 40 && b.offsetWidth >= 40)"
        )
        worst = contrast(page)[0]
        assert worst[0] >= 4.5, worst
        keep_screenshot(page, f"report phone {scheme}")


def test_every_control_and_picture_has_a_name(browser, good):
    _, path = good
    with screen(browser, path) as page:
        nameless = page.evaluate("""[...document.querySelectorAll('button, [role=img], [role=toolbar]')]
            .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim())).map((e) => e.outerHTML)""")
        assert nameless == []
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
        assert levels[0] == 1 and all(b <= a + 1 for a, b in pairwise(levels))


def test_a_run_of_one_step_without_layers_is_a_page_too(browser, tmp_path):
    model = nn.Linear(2, 1)
    monitor = viz.TrainingMonitor(model, every=1, activations=False)
    loss = model(tg.ones(3, 2)).sum()
    loss.backward()
    monitor.step(loss)
    monitor.save(tmp_path / "one.html")
    with screen(browser, tmp_path / "one.html") as page:
        assert page.locator("#layers-part").count() == 0 and page.locator("#confusion-part").count() == 0
        assert "Nothing to report" in page.locator("#verdict").inner_text()
