"""Backgrounds that are hard to tell from faces: skin-coloured walls and wood, head-shaped blobs."""

import cv2
import numpy as np

from pipeline.data.portraits.canvas import Canvas, oval, planes, smooth_noise, stripes
from pipeline.data.portraits.people import HAIR_COLOURS, any_colour


def paint_background(canvas: Canvas, rng) -> None:
    """Fill the canvas with a wall, wood, shelves, foliage or clutter, more or less out of focus."""
    height, width = canvas.shape
    # Backgrounds are seldom in focus: half the resolution looks the same and costs a quarter.
    backdrop = Canvas((height + 1) // 2, (width + 1) // 2)
    backdrops = (_wall, _pattern, _wood, _shelves, _foliage, _clutter)
    rng.choice(np.array(backdrops, object), p=[0.2, 0.15, 0.1, 0.15, 0.15, 0.25])(backdrop, rng)
    if rng.random() < 0.25:
        for _ in range(rng.integers(1, 4)):
            paint_head_like(backdrop, rng)
    defocus = rng.uniform(0.002, 0.02) * min(backdrop.shape) if rng.random() < 0.8 else 0.0
    for plane, painted in zip(canvas.image, backdrop.image, strict=True):
        blurred = cv2.GaussianBlur(painted, (0, 0), defocus + 0.3)
        plane[:] = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)


def paint_head_like(canvas: Canvas, rng) -> None:
    """A skin-coloured oval with hair but no features: a passer-by far out of focus, a mannequin."""
    height, width = canvas.shape
    centre = rng.uniform((0, 0.1), (1, 0.9)) * (width, height)
    radius = rng.uniform(0.05, 0.13) * np.sqrt(height * width)
    radii = np.array((radius, radius * rng.uniform(1.15, 1.45)))
    hair = np.array(rng.choice(HAIR_COLOURS))
    body = oval(centre + np.array((0, 3.2 * radius)), (1.9 * radius, 2.2 * radius), power=2.6)
    canvas.fill(body, any_colour(rng, 0.1))
    canvas.fill(oval(centre - np.array((0, 0.15 * radius)), radii * 1.12), hair)
    canvas.fill(oval(centre + np.array((0, 0.3 * radius)), radii * 0.92), any_colour(rng, 1))


def _wall(canvas: Canvas, rng) -> None:
    first, second = any_colour(rng, 0.45), any_colour(rng, 0.3)
    mix = 0.5 + 0.5 * smooth_noise(rng, canvas.shape, int(rng.integers(1, 7)))
    canvas.image[:] = planes(first) + planes((second - first) * rng.uniform(0.2, 1)) * mix


def _pattern(canvas: Canvas, rng) -> None:
    _wall(canvas, rng)
    period = rng.uniform(0.04, 0.16) * canvas.shape[1]
    angle = rng.uniform(0, np.pi)
    bands = stripes(canvas.shape, period, angle)
    if rng.random() < 0.5:
        bands = bands * stripes(canvas.shape, period, angle + np.pi / 2)
    canvas.image *= 1 + np.float32(rng.uniform(0.06, 0.25)) * bands


def _wood(canvas: Canvas, rng) -> None:
    grain = smooth_noise(rng, canvas.shape, 5, stretch=8, roughness=0.9)
    canvas.image[:] = planes(any_colour(rng, 1)) * (1 + 0.3 * grain)
    canvas.image *= 1 + 0.06 * stripes(canvas.shape, rng.uniform(0.2, 0.5) * canvas.shape[1], 0)


def _shelves(canvas: Canvas, rng) -> None:
    height, width = canvas.shape
    canvas.image[:] = planes(any_colour(rng, 0.4) * 0.5)
    board = rng.uniform(0.18, 0.32) * height
    for floor in np.arange(board, height + board, board):
        x = 0.0
        while x < width:
            thick, tall = rng.uniform(0.03, 0.1) * width, rng.uniform(0.55, 0.92) * board
            book = np.s_[:, max(0, round(floor - tall)) : round(floor), round(x) : round(x + thick)]
            canvas.image[book] = planes(any_colour(rng, 0.3))
            x += thick
        canvas.image[:, round(floor) : round(floor + 0.08 * board)] = planes((90, 70, 52))


def _foliage(canvas: Canvas, rng) -> None:
    height, width = canvas.shape
    canvas.image[:] = planes(rng.uniform((20, 50, 20), (150, 190, 150)))
    for _ in range(rng.integers(25, 50)):
        centre, length = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.04, 0.14) * width
        green = rng.uniform((20, 60, 10), (170, 200, 110))
        points = oval(centre, (length, 0.4 * length), rng.uniform(0, np.pi), power=1.6, count=20)
        canvas.fill(points, green)


def _clutter(canvas: Canvas, rng) -> None:
    _wall(canvas, rng)
    height, width = canvas.shape
    for _ in range(rng.integers(5, 14)):
        centre = rng.uniform(0, 1, 2) * (width, height)
        radii = rng.uniform(0.03, 0.22, 2) * (width, height)
        points = oval(centre, radii, rng.uniform(0, np.pi), power=rng.choice([1.2, 2, 2, 7]))
        canvas.fill(points, any_colour(rng, 0.45))
