"""What comes between the camera and the face: medical masks, hands, phones, cups, microphones, leaves."""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.data.portraits.canvas import Canvas, oval, smooth_noise
from pipeline.data.portraits.head import HeadFrame, face_outline
from pipeline.data.portraits.people import Person, Scene

MINIMUM_VISIBLE = 0.5  # of the face, after something is put in front of it
UP = -np.pi / 2  # direction in radians, y grows downwards

Layer = tuple[np.ndarray, np.ndarray]  # coverage (H, W), colour (3,)


@dataclass(frozen=True)
class Holder:
    """Who holds an object: the canvas, the size of their head, the colours of hand, sleeve and object."""

    canvas: Canvas
    unit: float  # half the width of the face in pixels
    skin: np.ndarray  # (3,)
    sleeve: np.ndarray  # (3,)
    colour: np.ndarray  # (3,)

    def hand(self, palm, size: float, angle: float, rng) -> list[Layer]:
        """A hand at palm (2,) pixels that points along angle; size is half its width over half the face's."""
        return hand_layers(self.canvas, self.skin, self.sleeve, palm, size * self.unit, angle, rng)

    def patch(self, points, colour) -> Layer:
        """A polygon in one colour."""
        return self.canvas.polygon(points), np.asarray(colour, float)

    def rod(self, start, stop, thickness: float, colour) -> Layer:
        """A line in one colour; the thickness is in units of the holder."""
        return self.canvas.stroke([start, stop], thickness * self.unit), np.asarray(colour, float)


def paint_medical_mask(canvas: Canvas, person: Person, scene: Scene, frame: HeadFrame) -> None:
    """A pleated mask over nose, mouth and chin, with loops to the ears."""
    colour = 0.5 * np.array(scene.accessory) + 0.5 * np.array((200, 220, 230))
    for side in (-1, 1):
        loop = frame.at([frame.turned(side * 0.7, 0.2), (side * 1.0, -0.05)])
        canvas.occlude(canvas.stroke(loop, 0.05 * frame.half_width), colour)
    cloth = canvas.polygon(frame.oval(0.4 * np.sin(frame.yaw), 0.72, 1.2, 0.5, power=4))
    # Over the whole lower face, also where hair hides it already or a beard hangs below the chin.
    covered = cv2.max(canvas.polygon(face_outline(person, frame)), canvas.face)
    cloth = cv2.min(cloth, cv2.dilate(covered, np.ones((5, 5), np.uint8)))
    canvas.occlude(cloth, colour)
    for y in (0.4, 0.58, 0.76):
        pleat = [frame.at(frame.turned(x, y + 0.05 * (1 - x * x))) for x in np.linspace(-0.75, 0.75, 9)]
        canvas.paint(cv2.min(cloth, canvas.stroke(pleat, 0.04 * frame.half_width)), colour * 0.8)


def paint_in_front(canvas: Canvas, person: Person, scene: Scene, frame: HeadFrame, rng) -> None:
    """Whatever the scene puts in front of the face."""
    if scene.in_front == "nothing":
        return
    if scene.in_front == "medical mask":
        paint_medical_mask(canvas, person, scene, frame)
        return
    skin, sleeve, colour = np.array(person.skin), np.array(scene.cloth), np.array(scene.accessory)
    holder = Holder(canvas, frame.half_width, skin * rng.uniform(0.88, 1.05), sleeve, colour)
    layers = place_object(holder, scene.in_front, frame, rng)
    texture = 1 + 0.08 * smooth_noise(rng, canvas.shape, 5)
    for coverage, colour in layers:
        canvas.occlude(coverage, colour, texture)


def place_object(holder: Holder, name: str, frame: HeadFrame, rng) -> list[Layer]:
    """Layers of the object, moved off the face until enough of the face remains in view."""
    face = holder.canvas.face
    side = rng.choice([-1, 1])
    x, y = {  # where it starts, in head coordinates
        "hand": (side * rng.uniform(0.1, 0.9), rng.uniform(0.3, 1.05)),
        "phone": (side * rng.uniform(0.5, 0.95), rng.uniform(-0.2, 0.7)),
        "cup": (rng.uniform(-0.3, 0.3), rng.uniform(0.75, 1.0)),
        "microphone": (side * rng.uniform(0.0, 0.5), rng.uniform(0.7, 0.95)),
        "leaves": (side * rng.uniform(0.1, 0.6), rng.uniform(-0.7, 0.8)),
    }[name]
    build = {"hand": _hand, "phone": _phone, "cup": _cup, "microphone": _microphone, "leaves": _leaves}[name]
    seed = rng.integers(2**32)
    enough = MINIMUM_VISIBLE * face.sum(dtype=np.int64)
    for push in np.arange(0, 3, 0.25):
        anchor = frame.at((x + push * side * 0.8, y + push * 0.5))
        # The same seed each time: the object keeps its look while it is moved.
        layers = build(holder, anchor, side, np.random.default_rng(seed))
        left = face
        for coverage, _ in layers:
            left = cv2.subtract(left, coverage)
        if left.sum(dtype=np.int64) >= enough:
            break
    return layers


def hand_layers(canvas: Canvas, skin, sleeve, palm, size: float, angle: float, rng) -> list[Layer]:
    """A hand with spread or closed fingers, pointing along angle (radians), and its forearm in a sleeve.

    palm: (2,) pixels; size: half the palm's width in pixels. Each part lies on a darker, larger copy, its rim.
    """
    skin, sleeve, palm = (np.asarray(values, float) for values in (skin, sleeve, palm))

    def away(turn: float, distance: float) -> np.ndarray:
        return palm + distance * size * np.array([np.cos(angle + turn), np.sin(angle + turn)])

    def limb(start, stop, thickness: float, colour) -> list[Layer]:
        rim = canvas.stroke([start, stop], thickness * size * 1.14 + 1.5)
        return [(rim, colour * 0.6), (canvas.stroke([start, stop], thickness * size), colour)]

    layers = limb(away(np.pi, 0.6), away(np.pi, 9), 1.25, skin)
    layers += limb(away(np.pi, 2.2), away(np.pi, 9), 1.75, sleeve)
    thumb_side, spread, fold = rng.choice([-1, 1]), rng.uniform(0.02, 0.3), rng.uniform(0.75, 1.0)
    layers += limb(away(thumb_side * 1.6, 0.6), away(thumb_side * rng.uniform(0.8, 1.3), 1.75), 0.55, skin)
    layers.append((canvas.polygon(oval(palm, (1.08 * size, 0.98 * size), angle, power=2.8)), skin * 0.6))
    layers.append((canvas.polygon(oval(palm, (1.03 * size, 0.92 * size), angle, power=2.8)), skin))
    for finger, length in enumerate((2.25, 2.6, 2.5, 2.0)):
        offset = (1.5 - finger) * thumb_side
        knuckle = away(offset * 0.48, 0.85)
        direction = angle + offset * spread
        tip = knuckle + (length - 0.9) * size * fold * np.array([np.cos(direction), np.sin(direction)])
        layers += limb(knuckle, tip, 0.46, skin)
    return layers


def _hand(holder: Holder, anchor, side, rng) -> list[Layer]:
    # Fingers point up and towards the middle of the face, as when resting the chin or hiding a laugh.
    return holder.hand(anchor, rng.uniform(0.36, 0.46), UP - side * rng.uniform(-0.2, 1.1), rng)


def _phone(holder: Holder, anchor, side, rng) -> list[Layer]:
    tilt, radii = rng.normal(0, 0.15), np.array((0.42, 0.85)) * holder.unit
    case = holder.colour * 0.5
    lens = anchor + np.array((-0.22, -0.6)) * holder.unit
    layers = holder.hand(anchor + np.array((0, 0.75)) * holder.unit, 0.36, UP, rng)
    layers.append(holder.patch(oval(anchor, radii * 1.04, tilt, power=9), case * 0.4))
    layers.append(holder.patch(oval(anchor, radii, tilt, power=9), case))
    layers.append(holder.patch(oval(lens, (0.1 * holder.unit, 0.1 * holder.unit)), (15, 15, 20)))
    return layers


def _cup(holder: Holder, anchor, side, rng) -> list[Layer]:
    unit = holder.unit
    body = np.array([(-0.42, -0.45), (0.42, -0.45), (0.33, 0.55), (-0.33, 0.55)]) * unit + anchor
    rim = oval(anchor - np.array((0, 0.45)) * unit, (0.42 * unit, 0.09 * unit))
    layers = [holder.patch(body, holder.colour), holder.patch(rim, holder.colour * 0.6)]
    palm = anchor + np.array((side * 0.75, 0.45)) * unit
    return layers + holder.hand(palm, 0.36, UP - side * 0.9, rng)


def _microphone(holder: Holder, anchor, side, rng) -> list[Layer]:
    unit = holder.unit
    tail, grip = (anchor + np.array(offset) * unit for offset in ((side * 0.7, 1.6), (side * 0.5, 1.3)))
    layers = [holder.rod(anchor, tail, 0.26, (28, 28, 32))]
    layers.append(holder.patch(oval(anchor, (0.34 * unit, 0.36 * unit)), (70, 70, 74)))
    layers.append(holder.patch(oval(anchor - 0.1 * unit, (0.14 * unit, 0.14 * unit)), (135, 135, 140)))
    return layers + holder.hand(grip, 0.36, UP - side * 0.5, rng)


def _leaves(holder: Holder, anchor, side, rng) -> list[Layer]:
    green = rng.uniform((30, 80, 20), (110, 160, 70))
    stem = anchor + np.array((side * 2.5, 1.2)) * holder.unit
    layers = [holder.rod(anchor, stem, 0.07, green * 0.5)]
    for position in np.linspace(0, 1, 9):
        centre = anchor + position * (stem - anchor) + rng.normal(0, 0.22, 2) * holder.unit
        radii = np.array((0.55, 0.2)) * holder.unit * rng.uniform(0.8, 1.2)
        leaf = oval(centre, radii, rng.uniform(0, np.pi), power=1.5)
        layers.append(holder.patch(leaf, green * rng.uniform(0.7, 1.25)))
    return layers
