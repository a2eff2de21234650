import numpy as np
import pandas as pd
import pytest

from pipeline.report.charts import HEIGHT, MOST_POINTS, WIDTH, Scale, area_chart, learning_charts, threshold_chart


def points(line):
    return [tuple(map(float, pair.split(","))) for pair in line.points.split()]


def test_a_scale_maps_its_limits_to_the_ends_and_ticks_lie_between():
    for scale in (Scale(0.2, 0.9, 100), Scale(0.01, 100, 100, logarithmic=True)):
        assert scale([scale.low, scale.high]).tolist() == [0, 100]
        places, texts = zip(*scale.ticks(), strict=True)
        assert len(places) >= 3
        assert scale([float(text) for text in texts]) == pytest.approx(places, abs=0.06)
        assert 0 <= min(places) < max(places) <= 100
    assert Scale(0, 1, 100, downwards=True)([0, 1]).tolist() == [100, 0]
    assert [text for _, text in Scale(1, 3, 100, whole=True).ticks()] == ["1", "2", "3"]


def test_learning_curves_of_each_fold_stop_where_the_training_stopped():
    histories = [
        (fold, pd.DataFrame({"epoch": range(1, n + 1), "val_dice": 0.5, "val_loss": 0.4, "train_loss": np.nan}))
        for fold, n in enumerate((3, 1000))
    ]
    dice, loss = learning_charts("unet", histories)
    assert [len(points(line)) for line in dice.lines] == [3, MOST_POINTS]
    assert points(dice.lines[1])[-1][0] == WIDTH
    assert points(dice.lines[0])[-1][0] < 2
    assert [line.dashed for line in loss.lines] == [False, True, False, True]
    assert [len(points(line)) for line in loss.lines if line.dashed] == [0, 0]


def test_the_threshold_curve_has_its_plateau_and_the_choice():
    curve = [0.9 - abs(threshold - 140) / 1000 for threshold in range(256)]
    found = {"threshold": 140}
    tuned = {"curve": [None, *curve[1:]], "postprocess": found, "found": found, "plateau": {"threshold": [130, 150]}}
    chart = threshold_chart("Score", tuned)
    assert [mark.label for mark in chart.marks] == ["1/2", "chosen: 140"]
    untuned = threshold_chart("Score", {**tuned, "postprocess": {"threshold": 128}})
    assert [mark.label for mark in untuned.marks] == ["1/2", "found, not submitted: 140"]
    (line,) = chart.lines
    assert len(points(line)) == 255
    best = min(points(line), key=lambda point: point[1])
    assert best[0] == pytest.approx(chart.marks[1].x, abs=0.1)
    assert 0 <= best[1] <= HEIGHT
    assert chart.band[0] < chart.marks[1].x < chart.band[0] + chart.band[1]


def test_dots_stand_where_area_and_dice_say_and_empty_masks_at_the_left():
    chart = area_chart(np.array([0, 0.01, 0.5]), np.array([1.0, 0.2, 0.9]), np.array([0, 1, 9]), ["a", "b", "c"])
    assert [dot.x for dot in chart.dots] == sorted(dot.x for dot in chart.dots)
    assert chart.dots[0].x == 0
    assert [dot.y for dot in chart.dots][:2] == [0, HEIGHT]
    assert [dot.label for dot in chart.dots] == ["a", "b", "c"]
