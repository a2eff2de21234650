"""The head: skin, ears, features, beard and hair, placed by a HeadFrame.

Head coordinates: (0, 0) is the middle of the face, x = +-1 and y = +-1 the ends of the face oval, y down.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.data.portraits.canvas import Canvas, oval, rotation, smooth_noise
from pipeline.data.portraits.people import LONG_HAIR, Person, Scene

EAR_ANGLE = 1.4  # radians from the nose to where the face ends at the ear
EYE_HEIGHT = -0.12
MOUTH_HEIGHT = 0.56
SHADED_HAIR = 0.85  # brightness of hair behind the head


@dataclass(frozen=True)
class HeadFrame:
    """Where head coordinates lie in the picture; lengths in pixels, angles in radians."""

    centre: tuple[float, float]
    half_width: float
    half_height: float
    roll: float
    yaw: float
    pitch: float

    @classmethod
    def of(cls, person: Person, scene: Scene, shape: tuple[int, int]) -> "HeadFrame":
        """The frame that gives the face the scene's share of a picture of shape (H, W)."""
        height, width = shape
        area = scene.face_fraction * height * width
        wanted = np.sqrt(area / np.pi / person.face_aspect)
        half_width = min(wanted, 0.34 * width, 0.36 * height / person.face_aspect)
        centre = (scene.centre[0] * width, scene.centre[1] * height)
        return cls(centre, half_width, half_width * person.face_aspect, scene.roll, scene.yaw, scene.pitch)

    def at(self, points) -> np.ndarray:
        """Pixels (N, 2) or (2,) of head coordinates of the same shape."""
        scaled = np.asarray(points, float) * (self.half_width, self.half_height)
        return scaled @ rotation(self.roll).T + self.centre

    def oval(self, x, y, radius_x, radius_y, tilt=0.0, **kwargs) -> np.ndarray:
        """Points of an oval in head coordinates; tilt turns it on the spot."""
        radii = (radius_x * self.half_width, radius_y * self.half_height)
        return oval(self.at((x, y)), radii, self.roll + tilt, **kwargs)

    def turned(self, x, y) -> tuple[float, float]:
        """Head coordinates of a feature of a face seen from the front, after yaw and pitch."""
        return math.sin(self._longitude(x) + self.yaw), y + 0.1 * self.pitch * (1 - abs(y))

    def foreshortening(self, x) -> float:
        """How much narrower a feature at x looks after yaw."""
        return math.cos(self._longitude(x) + self.yaw) / math.cos(self._longitude(x))

    @staticmethod
    def _longitude(x) -> float:
        return math.asin(min(max(x, -0.97), 0.97))

    def feature(self, x, y, radius_x, radius_y, tilt=0.0, **kwargs) -> np.ndarray:
        """Points of an oval that lies on the face and turns with it."""
        shrink = min(self.foreshortening(x), 1.1)
        return self.oval(*self.turned(x, y), radius_x * shrink, radius_y, tilt, **kwargs)

    def local(self, region_shape, corner) -> tuple[np.ndarray, np.ndarray]:
        """Head coordinates x, y, each float32 (h, w), of the pixels of a region whose top left is corner."""
        offset_x, offset_y = np.subtract(corner, self.centre).astype(np.float32)
        columns = np.arange(region_shape[1], dtype=np.float32)[None, :] + offset_x
        rows = np.arange(region_shape[0], dtype=np.float32)[:, None] + offset_y
        cosine, sine = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
        x = (columns * cosine + rows * sine) / np.float32(self.half_width)
        y = (rows * cosine - columns * sine) / np.float32(self.half_height)
        return x, y


def face_outline(person: Person, frame: HeadFrame) -> np.ndarray:
    """Points (N, 2) in pixels of the edge of the face, from the hair-free forehead to the chin."""
    points = oval((0, 0), (1, 1), power=person.squareness, count=96)
    chin = np.clip(points[:, 1], 0, 1) ** 1.5
    points[:, 0] *= 1 - person.jaw * chin
    # On the side turned to the camera the face ends at the ear, not at the contour of the head.
    near = np.sign(points[:, 0]) == -np.sign(frame.yaw)
    points[near, 0] *= np.sin(EAR_ANGLE - abs(frame.yaw))
    return frame.at(points)


def hair_texture(person: Person, rng, shape) -> np.ndarray:
    """Strands that run down for straight hair and curl into clumps for curly hair."""
    octaves = 6 if person.curl > 0.5 else 5
    strands = smooth_noise(rng, shape, octaves, stretch=1 + 7 * (1 - person.curl), roughness=0.95)
    return 1 + (0.35 + 0.35 * person.curl) * strands


def paint_head_behind(canvas: Canvas, person: Person, frame: HeadFrame) -> None:
    """The skull beyond the face, with the hair at its side, and the ears; none of it is face."""
    skin = np.array(person.skin)
    canvas.fill(frame.oval(0, -0.12, 0.98, 0.86), skin * 0.82)
    if person.hair_style != "bald":
        canvas.fill(frame.oval(0, -0.35, 0.99, 0.62), np.array(person.hair_colour) * SHADED_HAIR)
    for side in (-1, 1):
        facing_away = side * frame.yaw > 0.3
        if facing_away:
            continue
        x = side * np.sin(EAR_ANGLE - max(0, -side * frame.yaw)) * 1.02
        canvas.fill(frame.oval(x, 0.02, 0.16, 0.23, tilt=side * -0.12), skin * 0.9)
        canvas.fill(frame.oval(x, 0.02, 0.09, 0.15, tilt=side * -0.12), skin * 0.7)


def paint_face(canvas: Canvas, person: Person, scene: Scene, frame: HeadFrame, rng) -> None:
    """Bare face with relief, features and beard; it becomes the mask."""
    outline = canvas.polygon(face_outline(person, frame))
    pores = 0.04 * smooth_noise(rng, canvas.shape, 6, roughness=0.9)
    canvas.paint(outline, person.skin, face_relief(canvas, scene, frame, outline) + pores)
    canvas.add_face(outline)
    paint_nose(canvas, person, frame)
    paint_mouth(canvas, person, scene, frame)
    paint_beard(canvas, person, frame, outline, rng)
    for side in (-1, 1):
        paint_eye(canvas, person, scene, frame, side)


def face_relief(canvas: Canvas, scene: Scene, frame: HeadFrame, outline) -> np.ndarray:
    """Texture that models the face: light from a side, dark edges and eye sockets, bright nose and cheeks."""
    left, top, width, height = cv2.boundingRect(outline)
    x, y = frame.local((height, width), (left, top))
    light_x, light_y = np.cos(scene.light_angle), np.sin(scene.light_angle)
    region = 1.03 + 0.22 * scene.light_strength * np.clip(x * light_x + y * light_y, -1, 1)
    region -= 0.16 * np.clip(x * x + y * y, 0, 1.2) ** 2
    # Each bump: centre x, y, radius x, y, brightness at its middle.
    bumps = [(0, 0.1, 0.12, 0.25, 0.12), (0, -0.6, 0.5, 0.2, 0.05), (0, 0.78, 0.2, 0.1, 0.05)]
    for side in (-1, 1):
        bumps += [(side * 0.4, -0.16, 0.24, 0.14, -0.16), (side * 0.5, 0.22, 0.22, 0.16, 0.07)]
        bumps += [(side * 0.16, 0.1, 0.09, 0.22, -0.1 - 0.06 * side * light_x)]
    for centre_x, centre_y, radius_x, radius_y, brightness in bumps:
        turned_x, turned_y = frame.turned(centre_x, centre_y)
        distance = ((x - turned_x) / radius_x) ** 2 + ((y - turned_y) / radius_y) ** 2
        region += brightness * np.exp(-distance)
    relief = np.ones(canvas.shape, np.float32)
    relief[top : top + height, left : left + width] = region
    return relief


def paint_eye(canvas: Canvas, person: Person, scene: Scene, frame: HeadFrame, side: int) -> None:
    """White, iris, pupil, lid and brow of one eye; side -1 is left in the picture."""
    x, size, opening = side * person.eye_spacing, person.eye_size, scene.eye_open
    skin, hair = np.array(person.skin), np.array(person.hair_colour)
    white = canvas.polygon(frame.feature(x, EYE_HEIGHT, 0.19 * size, 0.075 * size * opening, power=1.7))
    canvas.paint(white, np.array((205, 200, 196)) * 0.5 + skin * 0.5)
    gaze = x + 0.05 * frame.yaw
    for radius, colour in ((0.095, person.eye_colour), (0.045, (10, 8, 8))):
        round_on_face = radius * size, radius * size / person.face_aspect
        disc = canvas.polygon(frame.feature(gaze, EYE_HEIGHT, *round_on_face))
        canvas.paint(cv2.min(disc, white), colour)
    glint = canvas.polygon(frame.feature(gaze + 0.03, EYE_HEIGHT - 0.025, 0.022, 0.016))
    canvas.paint(cv2.min(glint, white), (240, 240, 240))
    upper_half = {"start": 1.02 * np.pi, "stop": 1.98 * np.pi}
    lid = frame.feature(x, EYE_HEIGHT, 0.21 * size, 0.085 * size * opening, **upper_half)
    canvas.line(lid, 0.035 * frame.half_width, skin * 0.3)
    brow_colour = skin * 0.45 if person.hair_style == "bald" else 0.25 * skin + 0.4 * hair
    shape = {"tilt": side * person.brow_tilt, "power": 1.6}
    canvas.fill(frame.feature(x, EYE_HEIGHT - 0.19, 0.25, person.brow_thickness, **shape), brow_colour, opacity=0.9)


def paint_nose(canvas: Canvas, person: Person, frame: HeadFrame) -> None:
    """Shadow below the tip, nostrils, and the ridge of a turned nose."""
    skin = np.array(person.skin)
    tip = np.sin(frame.yaw) * 0.15  # the tip stands off the face, so that it moves further than the skin does
    base = person.nose_length - 0.06
    canvas.fill(frame.feature(tip, base, person.nose_width, 0.065), skin * 0.8, opacity=0.6)
    canvas.fill(frame.feature(tip, base - 0.05, person.nose_width * 0.8, 0.07), skin * 1.04, opacity=0.7)
    for side in (-1, 1):
        nostril = frame.feature(tip + side * person.nose_width * 0.5, base + 0.02, 0.055, 0.022)
        canvas.fill(nostril, skin * 0.38, opacity=0.9)
    side = 1 if frame.yaw > 0 else -1
    ridge = [frame.at(frame.turned(side * 0.1, -0.1)), frame.at(frame.turned(tip + side * 0.12, base - 0.08))]
    canvas.line(ridge, 0.04 * frame.half_width, skin * 0.7, opacity=min(0.7, abs(frame.yaw) * 1.6))


def paint_mouth(canvas: Canvas, person: Person, scene: Scene, frame: HeadFrame) -> None:
    """Lips, and teeth or the dark of the mouth when it is open."""
    x = np.linspace(-1, 1, 17)
    arch = 1 - x * x
    corners = -0.07 * scene.smile * x * x + 0.03 * scene.smile
    half_open = 0.09 * scene.mouth_open * arch
    upper_lip, lower_lip = 0.055 * arch * (1 - 0.25 * np.exp(-((x / 0.2) ** 2))), 0.07 * arch
    width = person.mouth_width * (1 + 0.15 * scene.smile)

    def curve(y):
        return frame.at([frame.turned(px * width, MOUTH_HEIGHT + py) for px, py in zip(x, y, strict=True)])

    def band(top, bottom):
        return np.concatenate([curve(top), curve(bottom)[::-1]])

    lips = np.array(person.lip_colour)
    canvas.fill(band(corners - half_open - upper_lip, corners - half_open + 0.012), lips * 0.9)
    canvas.fill(band(corners + half_open - 0.012, corners + half_open + lower_lip), lips)
    if scene.mouth_open > 0.15:
        canvas.fill(band(corners - half_open, corners + half_open), (60, 22, 22))
        canvas.fill(band(corners - half_open, corners - 0.2 * half_open), (236, 230, 218))
    else:
        canvas.line(curve(corners), 0.03 * frame.half_width, lips * 0.45, opacity=0.8)


def paint_beard(canvas: Canvas, person: Person, frame: HeadFrame, outline, rng) -> None:
    """Beard and moustache; beards are face, also where they stand off the chin."""
    if person.beard == "none":
        return
    width = person.mouth_width
    mouth = canvas.polygon(frame.feature(0, MOUTH_HEIGHT + 0.01, width * 1.05, 0.085))
    moustache = canvas.polygon(frame.feature(0, MOUTH_HEIGHT - 0.1, width * 1.1, 0.07))
    goatee = cv2.min(canvas.polygon(frame.feature(0, 0.72, width * 1.15, 0.3, power=2.6)), outline)
    lower_face = cv2.min(canvas.polygon(frame.oval(0, 0.55, 1.05, 0.6)), outline)
    jaw = cv2.subtract(lower_face, canvas.polygon(frame.oval(*frame.turned(0, -0.1), 0.82, 0.5)))
    chin = canvas.polygon(frame.oval(*frame.turned(0, 0.8), 0.52, 0.36))
    regions = {
        "stubble": cv2.max(jaw, goatee),
        "moustache": moustache,
        "goatee": cv2.max(goatee, moustache),
        "full": cv2.max(cv2.max(jaw, chin), moustache),
    }
    beard = cv2.subtract(regions[person.beard], mouth)
    opacity = 0.35 if person.beard == "stubble" else 0.92
    canvas.paint(beard, person.hair_colour, hair_texture(person, rng, canvas.shape), opacity)
    canvas.add_face(beard)


def paint_hair_behind(canvas: Canvas, person: Person, frame: HeadFrame, texture, rng) -> None:
    """What hangs or stands behind the head."""
    volume, style = person.hair_volume, person.hair_style
    shapes = []
    if style in LONG_HAIR:
        length = 1.15 if style == "bob" else 2.3
        crown = oval((0, -0.2), (1.05 + volume, 0.95 + volume), start=np.pi, stop=2 * np.pi)
        right = [(1.1 + volume + rng.normal(0, 0.05), y) for y in np.linspace(0, length, 6)]
        left = [(-1.1 - volume + rng.normal(0, 0.05), y) for y in np.linspace(length, 0, 6)]
        shapes.append(frame.at(np.concatenate([crown, right, left])))
    elif style == "afro":
        cloud = oval((0, -0.4), (1.35 + volume, 1.1 + 0.7 * volume), count=80)
        shapes.append(frame.at(cloud * (1 + rng.normal(0, 0.02, (80, 1)))))
    elif style == "bun":
        shapes.append(frame.oval(0.2 * person.parting, -1.28, 0.45, 0.32))
    for shape in shapes:
        canvas.fill(shape, np.array(person.hair_colour) * SHADED_HAIR, texture)


def hairline(person: Person, yaw: float, rng) -> np.ndarray:
    """Points (N, 2) in head coordinates of the lower edge of the hair, from the left ear to the right."""
    x = np.linspace(-1.04, 1.04, 33)
    y = np.full_like(x, person.hairline)
    if person.hair_style in ("short", "bob", "long", "fringe"):
        y += 0.16 * np.abs(x - person.parting) - 0.06
    if person.hair_style == "receding":
        y -= 0.1 * np.exp(-(((np.abs(x) - 0.45) / 0.2) ** 2))
    temples = np.clip(np.abs(x) - 0.72, 0, None) / 0.32
    y += (-0.05 - y) * temples**1.5
    ragged = {"buzz": 0.008, "fringe": 0.045}.get(person.hair_style, 0.022)
    turn = 0.25 * np.sin(yaw) * (1 - np.abs(x) / x.max())
    return np.stack([x + turn, y + rng.normal(0, ragged, x.size)], axis=1)


def paint_hair_front(canvas: Canvas, person: Person, frame: HeadFrame, texture, rng) -> None:
    """The hair over the forehead and, for long hair, the locks over the cheeks; both hide the face."""
    if person.hair_style == "bald":
        return
    volume = person.hair_volume
    crown = oval((0, -0.1), (1.03 + volume, 0.95 + 0.8 * volume), start=np.pi, stop=2 * np.pi, count=41)[::-1]
    if person.hair_style != "buzz":
        crown *= 1 + rng.normal(0, 0.012, (41, 1))
    cap = canvas.polygon(frame.at(np.concatenate([hairline(person, frame.yaw, rng), crown])))
    canvas.occlude(cap, person.hair_colour, texture)
    if person.hair_style in LONG_HAIR:
        for side in (-1, 1):
            lock = canvas.polygon(lock_outline(person, frame, side, rng))
            canvas.occlude(lock, person.hair_colour, texture)


def lock_outline(person: Person, frame: HeadFrame, side: int, rng) -> np.ndarray:
    """Points of the hair that falls beside, and somewhat over, one cheek."""
    length = 1.15 if person.hair_style == "bob" else 2.1
    depth = rng.uniform(-0.05, 0.22)  # how far the lock comes into the face, differs from photo to photo
    y = np.linspace(-0.6, length, 9)
    inner = 0.98 - depth * np.sin(np.clip((y + 0.6) / 1.4, 0, 1) * np.pi) + rng.normal(0, 0.025, y.size)
    outer = 1.08 + person.hair_volume * np.clip(y + 0.6, 0, 0.6) / 0.6 + rng.normal(0, 0.03, y.size)
    x = np.concatenate([inner, outer[::-1]]) * side
    return frame.at(np.stack([x, np.concatenate([y, y[::-1]])], axis=1))
