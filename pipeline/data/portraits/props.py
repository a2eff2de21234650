"""What people wear: clothes, glasses, hats, hoods and scarves."""

from collections.abc import Callable

import cv2
import numpy as np

from pipeline.data.portraits.canvas import Canvas, oval, smooth_noise, stripes
from pipeline.data.portraits.head import EYE_HEIGHT, HeadFrame
from pipeline.data.portraits.people import CLOSED_HEADWEAR, Person, Scene

Parts = list[tuple[np.ndarray, float]]  # outline (N, 2) and brightness of each part of a hat


def paint_clothes(canvas: Canvas, person: Person, scene: Scene, frame: HeadFrame, rng) -> None:
    """Neck in the shade of the chin, then shoulders with a round or pointed neckline."""
    neck_x, neck_y = frame.at((0, 0.95))
    unit, bottom = frame.half_width, canvas.shape[0] + 9
    shoulder = neck_y + 0.55 * unit
    neck = [frame.at((-0.55, 0.3)), frame.at((0.55, 0.3)), (neck_x + 0.75 * unit, shoulder + 0.3 * unit)]
    neck += [(neck_x, shoulder + 0.9 * unit), (neck_x - 0.75 * unit, shoulder + 0.3 * unit)]
    canvas.fill(neck, np.array(person.skin) * 0.86)
    shade = frame.oval(0.1 * np.sin(frame.yaw), 0.62, 0.7, 0.55)
    canvas.paint(cv2.min(canvas.polygon(neck), canvas.polygon(shade)), np.array(person.skin) * 0.62)
    dip, half = rng.choice([0.1, 0.25, 0.75]), scene.shoulder_width
    neckline = np.array([(-0.62, 0), (-0.3, 0.7 * dip), (0, dip), (0.3, 0.7 * dip), (0.62, 0)])
    right = np.array([(0.8 * half, 0.35), (half, 1.1), (1.05 * half, (bottom - shoulder) / unit)])
    outline = np.concatenate([neckline, right, right[::-1] * (-1, 1)]) * unit + (neck_x, shoulder)
    canvas.fill(outline, scene.cloth, cloth_texture(canvas, frame, rng))
    canvas.line(outline[: len(neckline)], 0.07 * unit, np.array(scene.cloth) * 0.6)


def cloth_texture(canvas: Canvas, frame: HeadFrame, rng) -> np.ndarray:
    """Folds, and for some clothes stripes or checks."""
    texture = 1 + 0.22 * smooth_noise(rng, canvas.shape, 5)
    pattern, period = rng.integers(0, 4), frame.half_width * rng.uniform(0.2, 0.6)
    if pattern >= 2:
        texture += 0.18 * stripes(canvas.shape, period, rng.uniform(0, np.pi))
    if pattern == 3:
        texture += 0.18 * stripes(canvas.shape, period, rng.uniform(0, np.pi))
    return texture


def paint_eyewear(canvas: Canvas, scene: Scene, frame: HeadFrame, rng) -> None:
    """Glasses; lenses and rims are face, the temples are not."""
    if scene.eyewear == "none":
        return
    power, width, height = (2.2, 0.3, 0.21) if rng.random() < 0.5 else (5, 0.34, 0.19)
    rim = {"thin": 0.05, "thick": 0.12, "dark": 0.07}[scene.eyewear] * frame.half_width
    colour = (22, 20, 24) if rng.random() < 0.6 else rng.uniform(30, 190, 3)
    lenses = [frame.feature(side * 0.43, EYE_HEIGHT, width, height, power=power) for side in (-1, 1)]
    for side, lens in zip((-1, 1), lenses, strict=True):
        hinge = lens[lens[:, 0].argmax() if side > 0 else lens[:, 0].argmin()]
        temple = [hinge, frame.at((side * 1.04, -0.12))]
        if side * frame.yaw < 0.25:
            canvas.line(temple, rim, colour)
        glass = canvas.polygon(lens)
        tint, opacity = ((18, 20, 26), 0.93) if scene.eyewear == "dark" else ((225, 235, 245), 0.12)
        canvas.paint(glass, tint, opacity=opacity)
        glare = lens.mean(0) + np.array([(-0.12, 0.0), (0.0, -0.1)]) * frame.half_width
        streak = cv2.min(glass, canvas.stroke(glare, 0.06 * frame.half_width))
        canvas.paint(streak, (245, 248, 255), opacity=0.4)
        frame_line = canvas.stroke(lens, rim, closed=True)
        canvas.paint(frame_line, colour)
        canvas.add_face(cv2.max(glass, frame_line))
    bridge = [frame.at(frame.turned(x, EYE_HEIGHT - y)) for x, y in ((-0.14, 0.02), (0, 0.05), (0.14, 0.02))]
    canvas.line(bridge, rim, colour)


def paint_hood_behind(canvas: Canvas, scene: Scene, frame: HeadFrame) -> None:
    """The inside and the folds of a hood or headscarf behind the head."""
    canvas.fill(frame.oval(0, 0.1, 1.3, 1.3, power=2.3), np.array(scene.accessory) * 0.55)


def paint_headwear(canvas: Canvas, scene: Scene, frame: HeadFrame, rng) -> None:
    """Hat, hood or scarf; hides the face below it."""
    if scene.headwear == "none":
        return
    colour = np.array(scene.accessory)
    texture = 1 + 0.15 * smooth_noise(rng, canvas.shape, 6, roughness=0.85)
    for outline, tone in HEADWEAR_SHAPES[scene.headwear](frame, rng):
        coverage = canvas.polygon(outline)
        if scene.headwear in CLOSED_HEADWEAR:
            radii = rng.uniform(0.8, 0.95), rng.uniform(0.82, 0.92)
            opening = canvas.polygon(frame.oval(*frame.turned(0, 0.06), *radii, power=2.3))
            coverage = cv2.subtract(coverage, opening)
        canvas.occlude(coverage, colour * tone, texture)


def _dome(frame: HeadFrame, brow: float, top: float, side: float = 1.12) -> np.ndarray:
    """Outline of a hat's crown whose lower edge is at y = brow."""
    return frame.at(oval((0, brow), (side, top), start=np.pi, stop=2 * np.pi, power=2.4, count=40))


def _cap(frame: HeadFrame, rng) -> Parts:
    brow = rng.uniform(-0.66, -0.5)
    peak_x = np.sin(frame.yaw)
    peak = frame.oval(peak_x, brow + 0.03, 0.95, rng.uniform(0.12, 0.2), power=2.4)
    return [(_dome(frame, brow + 0.04, 0.72), 1.0), (peak, 0.75)]


def _beanie(frame: HeadFrame, rng) -> Parts:
    brow = rng.uniform(-0.62, -0.42)
    band = frame.oval(0, brow - 0.08, 1.15, 0.15, power=5)
    return [(_dome(frame, brow, rng.uniform(0.75, 1.0)), 1.0), (band, 0.8)]


def _brimmed(frame: HeadFrame, rng) -> Parts:
    brow = rng.uniform(-0.68, -0.52)
    band = frame.oval(0, brow - 0.12, 1.06, 0.1, power=6)
    brim = frame.oval(0, brow, rng.uniform(1.7, 2.2), 0.13)
    return [(_dome(frame, brow, 0.75, side=1.05), 1.0), (band, 0.45), (brim, 0.85)]


def _hood(frame: HeadFrame, rng) -> Parts:
    return [(hood_outline(frame), 1.0)]


def hood_outline(frame: HeadFrame) -> np.ndarray:
    """Points (N, 2) of a raised hood, the same from the front and from behind."""
    return frame.oval(0, 0.05, 1.3, 1.28, power=2.2)


def _headscarf(frame: HeadFrame, rng) -> Parts:
    drape = frame.at([(-0.95, 0.4), (0.95, 0.4), (1.5, 1.7), (0, 1.95), (-1.5, 1.7)])
    return [(drape, 0.85), (frame.oval(0, 0.0, 1.14, 1.16, power=2.2), 1.0)]


HEADWEAR_SHAPES: dict[str, Callable[[HeadFrame, np.random.Generator], Parts]] = {
    "cap": _cap,
    "beanie": _beanie,
    "brim": _brimmed,
    "hood": _hood,
    "headscarf": _headscarf,
}
