"""Step-through pages in a browser: all controls, and what makes them usable for everybody. Numbers: test_explain_browser.py."""

import re

import numpy as np
import pytest
from browser import browser_or_skip, contrast, keep_screenshot, screen, until
from explain_graphs import first_page, lenet_page, open_all, step_of, to_the_end

import tinygrad_cv as tg
from tinygrad_cv import viz

browser = pytest.fixture(scope="module")(browser_or_skip)
lenet = pytest.fixture(scope="module")(lenet_page)
first = pytest.fixture(scope="module")(first_page)


# -- controls --------------------------------------------------------------------------------------------------------------


def test_buttons_scrubber_and_keys_move_the_play(browser, first):
    with screen(browser, first) as page:
        count = int(page.locator("#step-count").text_content())
        assert step_of(page) == 0 and page.locator("#back").is_disabled() and page.locator("#first").is_disabled()
        page.locator("#forward").click()
        assert step_of(page) == 1 and page.locator("#pass").text_content() == "Forward"
        page.locator("#back").click()
        assert step_of(page) == 0
        page.locator("#last").click()
        assert step_of(page) == count and page.locator("#forward").is_disabled()
        page.locator("#first").click()
        for key, expected in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", count), ("Home", 0)]:
            page.locator("#title").click()
            page.keyboard.press(key)
            assert step_of(page) == expected, key
        page.locator("#scrub").fill("3")
        assert step_of(page) == 3 and page.evaluate("explain.player.position") == 3
        assert page.locator("#scrub").get_attribute("aria-valuetext")
        page.locator("#scrub").focus()
        page.keyboard.press("ArrowRight")
        assert step_of(page) == 4


def test_play_pause_and_speed(browser, first):
    with screen(browser, first) as page:
        page.locator("#speed").select_option("700")
        page.locator("#play").click()
        assert page.locator("#play").get_attribute("aria-label") == "Pause"
        until(page, "explain.player.position >= 2")
        page.locator("#play").click()
        assert page.locator("#play").get_attribute("aria-label") == "Play"
        stopped = step_of(page)
        page.wait_for_timeout(900)
        assert step_of(page) == stopped
        page.locator("#title").click()
        page.keyboard.press("Space")
        assert page.evaluate("explain.player.playing")
        page.keyboard.press("Space")
        assert not page.evaluate("explain.player.playing")


def test_each_step_says_its_formula_in_symbols_and_in_numbers(browser, first):
    with screen(browser, first) as page:
        said = []
        for position in range(int(page.locator("#step-count").text_content()) + 1):
            page.evaluate(f"explain.player.go({position})")
            said.append(
                " | ".join(
                    page.locator(s).text_content()
                    for s in ("#step-math", "#step-local", "#step-numbers", "#step-pattern", "#step-text")
                )
            )
        text = " ".join(" ".join(said).split())
        assert page.locator("#step-math math").count() == 1
        assert re.search(r"1\s*[·×⋅*]\s*\(?−4\)?\s*=\s*−4", text), text  # dL/dq = dL/df * df/dq = 1 * (-4) = -4
        assert "add distributes" in text.lower() and "multiply switches" in text.lower()


def test_the_quiz_hides_a_gradient_until_it_is_typed(browser, first):
    with screen(browser, first) as page:
        page.keyboard.press("q")
        assert page.locator("#quiz-toggle").get_attribute("aria-pressed") == "true"
        for _ in range(20):
            if page.locator("#quiz").is_visible():
                break
            page.locator("#forward").click()
        assert page.locator("#quiz").is_visible() and not page.locator("#step-numbers").is_visible()
        hidden = page.evaluate("explain.quiz.current.answer")
        wanted = page.locator("#quiz-input").get_attribute("aria-label")
        assert re.fullmatch(r"dL/d[a-z]", wanted) and f"What is {wanted}?" in page.locator("#step-text").text_content()
        step = step_of(page)
        page.locator("#quiz-input").fill("nonsense")
        page.locator("#quiz-check").click()
        assert "number" in page.locator("#quiz-feedback").text_content()
        page.locator("#quiz-input").fill(str(-hidden))
        page.keyboard.press("Enter")
        assert (
            "sign" in page.locator("#quiz-feedback").text_content()
            and page.locator("#quiz-input").get_attribute("aria-invalid") == "true"
        )
        keep_screenshot(page, "quiz")
        page.locator("#quiz-input").fill(f"{hidden:g}")
        page.keyboard.press("Enter")
        assert page.locator("#quiz").is_hidden() and step_of(page) == step and page.locator("#step-numbers").is_visible()
        assert "0 of 1" in page.locator("#quiz-score").text_content()  # not at the first try
        while not page.locator("#quiz").is_visible():
            page.locator("#forward").click()
        page.locator("#quiz-reveal").click()
        assert page.locator("#quiz").is_hidden() and "of 2" in page.locator("#quiz-score").text_content()


def test_a_wrong_answer_never_shows_the_number_elsewhere(browser, tmp_path):
    x, w = (tg.tensor(v, requires_grad=True) for v in ([[1.0, 2.0]], [[3.25], [-1.75]]))
    path = tmp_path / "page.html"
    viz.explain((x @ w).sum(), path, names={"x": x, "w": w})
    with screen(browser, path) as page:
        page.locator("#quiz-toggle").click()
        for _ in range(30):
            page.evaluate("explain.player.next()")
            if not page.locator("#quiz").is_visible():
                continue
            visible = page.locator("#operator-view").inner_text() if page.locator("#view-panel").is_visible() else ""
            assert "gradient of" not in visible
            page.locator("#quiz-reveal").click()


def test_modules_open_and_close(browser, lenet):
    path = lenet[0]
    with screen(browser, path) as page:
        boxes = page.locator("[data-node]").count()
        steps = int(page.locator("#step-count").text_content())
        open_all(page)
        assert page.locator("[data-node]").count() > boxes and int(page.locator("#step-count").text_content()) > steps
        opened = page.locator('[data-cluster][aria-expanded="true"]')
        assert opened.count() >= 2
        opened.first.focus()
        page.keyboard.press("Enter")
        assert page.locator("[data-node]").count() < boxes + steps
        assert re.search("clos", page.locator("#step-text").text_content())


def test_the_inspector_shows_every_kind_of_picture(browser, lenet):
    path = lenet[0]
    image = tg.data.MNIST(train=False).images[0].astype(np.float32) / np.float32(255)
    with screen(browser, path) as page:
        to_the_end(page)
        open_all(page)
        node = page.evaluate("explain.model.data.nodes.find((n) => n.shape.join() === '1,1,28,28').id")
        page.locator(f'[data-node="{node}"]').focus()
        page.keyboard.press("Enter")
        assert page.locator("#inspector").is_visible()
        for mode in ("channels", "heatmap", "histogram", "table"):
            page.locator(f"#mode-{mode}").click()
            assert page.locator(f"#mode-{mode}").get_attribute("aria-pressed") == "true"
            keep_screenshot(page, f"inspector {mode}")
        page.locator("#mode-heatmap").click()
        map_ = page.locator("#inspector canvas")
        map_.scroll_into_view_if_needed()
        box = map_.bounding_box()
        row, column = 10, 17
        page.mouse.move(box["x"] + (column + 0.5) * box["width"] / 28, box["y"] + (row + 0.5) * box["height"] / 28)
        assert page.locator("#inspector-position").text_content() == f"[0, 0, {row}, {column}]"
        assert float(page.locator("#inspector-number").text_content()) == pytest.approx(float(image[row, column]), rel=1e-6)
        page.keyboard.press("Escape")
        assert page.locator("#inspector").is_hidden()
        assert page.evaluate("document.activeElement.dataset.node") == node


# -- for everybody ---------------------------------------------------------------------------------------------------------


def test_roles_and_names(browser, lenet):
    with screen(browser, lenet[0]) as page:
        page.evaluate("explain.player.go(1)")
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('button, select, input, canvas, dialog, [role=button], [role=img], [tabindex="0"]')]
                 .filter((e) => e.checkVisibility() && !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') ||
                    e.labels?.length || e.textContent.trim() || e.querySelector('title')))
                 .map((e) => e.outerHTML.slice(0, 120))"""
        )
        assert not unnamed, unnamed
        assert page.locator("html").get_attribute("lang") == "en" and page.locator("h1").count() == 1
        assert page.get_by_role("main").count() == 1
        assert page.locator('#step-text[aria-live="polite"]').count() == 1
        assert page.locator("#step-text").text_content().strip()
        for folded in page.locator("[data-cluster][role=button]").all():
            assert folded.get_attribute("aria-expanded") in ("true", "false") and folded.get_attribute("aria-label")


def test_the_tab_key_reaches_the_controls_in_the_order_they_are_seen(browser, first):
    with screen(browser, first) as page:
        page.evaluate("explain.player.go(3)")
        reached = []
        for _ in range(60):
            page.keyboard.press("Tab")
            name = page.evaluate(
                "document.activeElement.id || document.activeElement.dataset.node || document.activeElement.tagName"
            )
            if name in reached:
                break
            reached.append(name)
        controls = [n for n in reached if n in ("first", "back", "play", "forward", "last", "scrub", "speed", "quiz-toggle")]
        assert controls == ["first", "back", "play", "forward", "last", "scrub", "speed", "quiz-toggle"], reached
        assert any(re.fullmatch(r"n\d+", n) for n in reached), "no box of the graph can be reached"
        outline = page.evaluate(
            """() => { document.getElementById('quiz-toggle').focus(); const s = getComputedStyle(document.activeElement);
                 return [s.outlineStyle, s.boxShadow]; }"""
        )
        assert outline[0] != "none" or outline[1] != "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_level_aa(browser, lenet, scheme):
    with screen(browser, lenet[0], scheme=scheme) as page:
        for position in (1, 2, page.evaluate("explain.player.steps.length - 1")):
            page.evaluate(f"explain.player.go({position})")
            ratios = contrast(page)
            assert len(ratios) > 10
            assert ratios[0][0] >= 4.5, ratios[:5]


@pytest.mark.parametrize("size", ["phone", "projector"])
def test_nothing_hangs_over_the_edge(browser, lenet, first, size):
    for name, path in (("lenet", lenet[0]), ("first", first)):
        with screen(browser, path, size) as page:
            for position in (1, page.evaluate("explain.player.steps.length - 1")):
                page.evaluate(f"explain.player.go({position})")
                over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert over <= 0
                keep_screenshot(page, f"{name} {size} {position}")
            for button in page.locator("#player button").all():
                box = button.bounding_box()
                assert min(box["width"], box["height"]) >= 24  # WCAG 2.2, 2.5.8
