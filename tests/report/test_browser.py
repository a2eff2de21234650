"""The page in a real browser: no errors, nothing asked of the network, and everything can be used by keyboard."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from pipeline.postprocess import Postprocess
from pipeline.report.page import render_page
from pipeline.report.scores import Scores, score_masks
from pipeline.rle import dice
from pipeline.stages.report import results_of

sync_playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: on Debian, apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # As root, which containers run as, Chromium starts only without its sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """``opened(text, **options)``: the page in a tab of its own; at the end nothing must have gone wrong in any."""
    problems, asked, contexts = [], [], []

    def open_page(text, **options):
        file = tmp_path / "report.html"
        file.write_text(text, encoding="utf-8")
        contexts.append(browser.new_context(offline=True, **options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("dialog", lambda dialog: problems.append(dialog.message))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(file.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module")
def text(run, scores):
    return render_page(run, scores, results_of(run))


def pixels_of_mask(tab):
    """How many pixels of the canvas have each of the colours of the difference."""
    return tab.evaluate(
        """() => {
            const canvas = document.getElementById('overlay');
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const counts = { missed: 0, extra: 0, right: 0 };
            for (let i = 0; i < data.length; i += 4) {
                if (!data[i + 3]) continue;
                counts[data[i] < 100 ? 'missed' : data[i + 1] < 100 ? 'extra' : 'right']++;
            }
            return counts;
        }"""
    )


def test_the_slider_moves_the_mask_and_the_exact_dice(opened, text, run, scores):
    tab = opened(text)
    row = int(scores.worst_first[0])
    exact = f"{scores.dice[row]:.4f}"
    assert tab.locator("#pick option").first.text_content() == f"{run.masks['mask_id'].iat[row]}: {exact}"
    assert tab.locator("#submitted").text_content() == exact
    before = pixels_of_mask(tab)
    for threshold in (60, 128, 250):
        tab.locator("#threshold").fill(str(threshold))
        expected = dice(run.predicted(row, Postprocess(threshold=threshold)), run.truth[row])
        assert tab.locator("#dice").text_content() == f"{expected:.4f}"
        assert tab.locator("#value").text_content() == f"{threshold}/255"
    after = pixels_of_mask(tab)
    assert after != before
    assert after["extra"] == after["right"] == 0  # no probability is that high
    assert after["missed"] > 0
    tab.locator("#chosen").click()
    assert pixels_of_mask(tab) == before


def test_best_threshold_and_views(opened, text, run, scores):
    tab = opened(text)
    row = int(scores.worst_first[0])
    tab.locator("#best").click()
    best = max(dice(run.predicted(row, Postprocess(threshold=level)), run.truth[row]) for level in range(256))
    assert tab.locator("#dice").text_content() == f"{best:.4f}"
    difference = tab.locator("#overlay").screenshot()
    tab.get_by_label("probability", exact=True).check()
    probability = tab.locator("#overlay").screenshot()
    tab.get_by_label("photograph").check()
    assert len({difference, probability, tab.locator("#overlay").screenshot()}) == 3


@pytest.mark.parametrize(("rule", "shown"), [(1.0, "1.0000"), (0.0, "0.0000"), (np.nan, "\N{EN DASH}")])
def test_where_nothing_is_the_dice_is_that_of_the_rule(opened, run, scores, rule, shown):
    """A false alarm, which is none at a threshold above all probabilities."""
    row = int(np.flatnonzero(scores.chosen.true == 0)[0])
    predicted = scores.chosen.predicted.copy()
    predicted[row] = 1
    alarmed = Scores(replace(scores.chosen, predicted=predicted), scores.cross_fitted, rule)
    tab = opened(render_page(run, alarmed, results_of(run)))
    tab.locator("#pick").select_option(f"{run.masks['mask_id'].iat[row]}: 0.0000")
    tab.locator("#threshold").fill("0")
    assert tab.locator("#dice").text_content() == "0.0000"
    tab.locator("#threshold").fill("255")
    assert tab.locator("#dice").text_content() == shown
    tab.locator("#best").click()
    assert tab.locator("#dice").text_content() == shown


def test_headings_sort_and_the_field_filters(opened, text, run, scores):
    tab = opened(text)
    column = tab.locator("#table tbody tr td:nth-child(3)")
    rising = [f"{value:.4f}" for value in sorted(scores.dice)]
    assert column.all_text_contents() == rising
    headings = tab.locator("#table").get_by_role("columnheader")
    heading = headings.filter(has_text="Dice")
    heading.get_by_role("button", name="Dice", exact=True).click()
    assert column.all_text_contents() == rising[::-1]
    assert heading.get_attribute("aria-sort") == "descending"
    headings.filter(has_text="mask").get_by_role("button").click()
    names = tab.locator("#table tbody tr th")
    assert names.all_text_contents() == sorted(run.masks["mask_id"])
    assert heading.get_attribute("aria-sort") is None
    wanted = run.masks["mask_id"].iat[0]
    tab.locator("#filter").fill(wanted.upper())
    assert tab.locator("#table tbody tr:visible th").all_text_contents() == [wanted]
    assert tab.locator("#count").text_content() == "1 masks"


def test_everything_can_be_done_by_keyboard(opened, text):
    tab = opened(text)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    button = tab.locator("figure.mask button").last
    button.focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "threshold"
    picked = tab.locator("#pick").evaluate("pick => pick.selectedOptions[0].text").partition(":")[0]
    assert button.get_attribute("aria-label") == f"Move the threshold of {picked}"
    value = int(tab.locator("#threshold").input_value())
    before = tab.locator("#dice").text_content()
    for _ in range(60):
        tab.keyboard.press("ArrowRight")
    assert int(tab.locator("#threshold").input_value()) == value + 60
    assert tab.locator("#dice").text_content() != before
    heading = tab.locator("#table th", has_text="missed")
    heading.get_by_role("button").focus()
    tab.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "ascending"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert tab.evaluate(outline) == "solid"


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_is_wider_than_the_screen(opened, text, width):
    tab = opened(text, viewport={"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_light_and_dark(opened, text):
    colours = set()
    for scheme in ("light", "dark"):
        tab = opened(text, color_scheme=scheme)
        colours.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


def test_hostile_ids_are_text(opened, run, enlarge):
    ids = [f"<img src=x onerror=alert({row})></script><script>alert(1)</script>" for row in range(len(run.masks))]
    hostile = enlarge(run, ids)
    tab = opened(render_page(hostile, score_masks(hostile, Console(quiet=True)), results_of(hostile)))
    assert set(tab.locator("#table tbody th").all_text_contents()) == set(ids)
    assert tab.locator("#pick option").first.text_content().startswith("<img src=x")
    assert tab.locator("img[src=x]").count() == 0
