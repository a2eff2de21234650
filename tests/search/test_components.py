"""Counts under the rules on holes and components against the masks that they stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.postprocess import Held, Postprocess, final_edges
from pipeline.rle import area, intersection, to_edges
from pipeline.search.components import Rule, rule_counts, rule_grid

RULES = rule_grid((2, 9, None), (3, 20), (1, 2))
BASES = (Postprocess(), Postprocess(100), Postprocess(90, 200, 30))


def draw(seed, count=4):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        height, width = rng.integers(5, 40, 2).tolist()
        coarse = rng.integers(0, 256, (12, 12), dtype=np.uint8)
        truth = rng.random((height, width)) < rng.choice([0, 0.4])
        yield Held(coarse, height, width, to_edges(truth))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["stretch", "letterbox"]))
@settings(max_examples=20)
def test_counts_are_those_of_the_masks(seed, fit):
    images = list(draw(seed))
    counts = rule_counts(images, len(images), fit, BASES, RULES)
    for row, image in enumerate(images):
        for place, base in enumerate(BASES):
            for number, rule in enumerate(RULES):
                mask = final_edges(image.prob_hw, image.height, image.width, fit, rule.added_to(base))
                expected = [intersection(mask, image.true_edges), area(mask)]
                assert counts[:, row, place, number].tolist() == expected


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_threads_changes_nothing(workers):
    images = list(draw(1, 30))
    counts = rule_counts(images, len(images), "stretch", BASES, RULES, workers)
    assert np.array_equal(counts, rule_counts(iter(images), len(images), "stretch", BASES, RULES))


def test_the_fewest_rules_come_first():
    assert RULES[0] == Rule()
    assert len(RULES) == len(set(RULES)) == 4 * 3 * 3
    active = [rule.active for rule in RULES]
    assert active == sorted(active)
    assert rule_grid((), (), ()) == [Rule()]
    assert rule_grid((0,), (0, 5), (None,)) == [Rule(), Rule(min_component=5)]
