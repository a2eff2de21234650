"""What is in the page's text: everything escaped, nothing from elsewhere, and never too much."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pipeline.metrics import Counts
from pipeline.report.page import render_page
from pipeline.report.scores import Scores, score_masks
from pipeline.stages.report import results_of

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "a' onclick='b",
    "<!--",
)
MEGABYTE = 10**6


class Elements(HTMLParser):
    """All elements with their attributes, and the text of scripts."""

    def __init__(self, page):
        super().__init__()
        self.found, self.scripts, self.text, self.inside = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data):
        (self.scripts if self.inside == "script" else self.text).append(data)

    def handle_endtag(self, tag):
        self.inside = None


@pytest.fixture(scope="module")
def page(run, scores):
    return render_page(run, scores, results_of(run))


def test_nothing_comes_from_elsewhere(page):
    elements = Elements(page)
    sources = [value for _, attributes in elements.found for name, value in attributes.items() if name == "src"]
    links = [attributes["href"] for tag, attributes in elements.found if tag in ("a", "link")]
    assert len(sources) > 50
    assert all(source.startswith("data:image/") for source in sources if source)
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"https?://|@import|url\(", page)
    policies = [attributes["content"] for tag, attributes in elements.found if "http-equiv" in attributes]
    assert policies[0].startswith("default-src 'none'; img-src data:;")
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_the_numbers_are_those_of_the_artifacts(page, run, scores):
    tuned = run.tuning["sets"]["ensemble"]
    for value in (tuned["submitted"], *tuned["submitted_ci95"], tuned["tuned"], *tuned["at_half_by_fold"]):
        assert f"{value:.4f}" in page
    masks = json.loads(next(each for each in Elements(page).scripts if each.startswith("{")))["masks"]
    by_id = dict(zip(run.masks["mask_id"], scores.dice, strict=True))
    assert {mask["label"]: mask["dice"] for mask in masks} == {each: f"{value:.4f}" for each, value in by_id.items()}
    assert all(mask["threshold"] == run.postprocess[0].threshold for mask in masks)


def test_ids_cannot_become_elements_or_scripts(run, enlarge):
    ids = [HOSTILE[row % len(HOSTILE)] + str(row) for row in range(len(run.masks))]
    hostile, harmless = (enlarge(run, each) for each in (ids, list(map(str, range(len(ids))))))
    elements, plain = (
        Elements(render_page(each, score_masks(each, Console(quiet=True)), results_of(each)))
        for each in (hostile, harmless)
    )
    assert [tag for tag, _ in elements.found] == [tag for tag, _ in plain.found]
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert len(elements.scripts) == 2
    labels = [mask["label"] for mask in json.loads(elements.scripts[0])["masks"]]
    assert set(labels) <= set(ids)
    text = "".join(elements.text)
    assert all(each in text for each in ids)


def test_a_large_data_set_makes_no_large_page(run, enlarge, tmp_path):
    """Forty thousand masks of photographs that hardly compress, with long ids."""
    count = 40_000
    large = enlarge(run, [f"{row:_<120}" for row in range(count)])
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (400, 400, 3), np.uint8)).save(tmp_path / "noise.png")
    sized = {"height": 400, "width": 400, "path": "noise.png"}
    data = run.settings.data.model_copy(update={"root": tmp_path})
    large = replace(
        large,
        settings=run.settings.model_copy(update={"data": data}),
        masks=large.masks.assign(**sized),
        held_out=replace(large.held_out, table=large.held_out.table.assign(path="noise.png")),
        maps=Noise(),
    )
    true = rng.integers(1, 10_000, count)
    counts = Counts(rng.integers(0, true), rng.integers(true, 10_001), true)
    page = render_page(large, Scores(counts, counts), results_of(run))
    assert len(page.encode()) < 10 * MEGABYTE
    rows = re.search(r'<table id="table">.*?</table>', page, re.DOTALL)[0].count("<tr>") - 1
    assert rows == 2000
    assert "2000 of 40000 masks" in page
    assert "48 of 40000 masks are here" in page


class Noise:
    """Maps that do not compress."""

    def __getitem__(self, rows):
        rng = np.random.default_rng(rows.start)
        return rng.integers(0, 256, (rows.stop - rows.start, 64, 64), np.uint8)


def test_a_metric_of_its_own_has_a_column(run, scores):
    tuning = {**run.tuning, "metric": "tgs-map"}
    page = render_page(replace(run, tuning=tuning), scores, {**results_of(run), "metric": "tgs-map"})
    assert '<button type="button">tgs-map</button>' in page
    assert "mean precision at IoU 0.50 to 0.95" in page


def test_masks_that_are_left_out_are_nowhere(run, scores):
    page = render_page(run, replace(scores, both_empty=np.nan), results_of(run))
    left_out = run.masks["mask_id"][(scores.chosen.true == 0) & (scores.chosen.predicted == 0)].tolist()
    rest = len(run.masks) - len(left_out)
    assert left_out
    assert f"nothing is predicted in {len(left_out)} masks" in page
    assert f"All {rest} masks." in page
    table = re.search(r'<table id="table">.*?</table>', page, re.DOTALL)[0]
    listed = re.findall(r'<th scope="row">(.*?)</th>', table)
    assert listed == [each for each in run.masks["mask_id"].iloc[scores.worst_first] if each not in left_out]
    data = json.loads(next(each for each in Elements(page).scripts if each.startswith("{")))
    assert data["bothEmpty"] is None
    assert len(data["masks"]) == rest


def test_what_has_no_score_has_a_dash(run, scores):
    ensemble = {
        **run.tuning["sets"]["ensemble"],
        "at_half_by_fold": [None, 0.5, 0.5],
        "submitted_ci95": [None, None],
    }
    tuning = {**run.tuning, "sets": {"ensemble": ensemble}}
    bare = replace(run, tuning=tuning)
    assert "95% interval \N{EN DASH} to \N{EN DASH}" in render_page(bare, scores, results_of(bare))
