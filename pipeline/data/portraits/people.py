"""Who is in a portrait (Person) and how this photograph of them was taken (Scene).

Lengths on the head are in units of the half width (x) and half height (y) of the face oval.
"""

from dataclasses import dataclass

import numpy as np

SKIN_TONES = (
    (242, 210, 188),
    (234, 192, 162),
    (226, 178, 138),
    (202, 146, 104),
    (160, 106, 70),
    (118, 76, 50),
    (82, 52, 36),
    (58, 38, 28),
)
HAIR_COLOURS = (
    (24, 20, 18),
    (46, 30, 22),
    (78, 50, 32),
    (118, 80, 48),
    (196, 158, 98),
    (158, 72, 36),
    (165, 163, 162),
    (224, 220, 212),
)
EYE_COLOURS = ((58, 38, 24), (92, 66, 36), (82, 112, 138), (84, 104, 70), (100, 104, 108))

HAIR_STYLES = ("bald", "buzz", "short", "fringe", "receding", "bob", "long", "afro", "bun")
LONG_HAIR = ("bob", "long")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
EYEWEAR = ("none", "thin", "thick", "dark")
HEADWEAR = ("none", "cap", "beanie", "brim", "hood", "headscarf")
CLOSED_HEADWEAR = ("hood", "headscarf")  # leave no room for loose hair
IN_FRONT = ("nothing", "hand", "phone", "cup", "microphone", "leaves", "medical mask")

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Person:
    """What stays the same from photograph to photograph."""

    skin: Colour
    face_aspect: float  # half height over half width
    jaw: float  # 0 leaves the oval, larger narrows the chin
    squareness: float  # power of the oval, 2 is an ellipse
    hair_style: str
    hair_colour: Colour
    curl: float  # 0 straight strands, 1 curls
    hairline: float  # y at the middle of the forehead
    hair_volume: float  # how far hair stands off the head
    parting: float  # x where the hairline is highest
    brow_thickness: float
    brow_tilt: float
    eye_spacing: float
    eye_size: float
    eye_colour: Colour
    nose_width: float
    nose_length: float
    mouth_width: float
    lip_colour: Colour
    beard: str
    eyewear: str  # the glasses they own


@dataclass(frozen=True)
class Scene:
    """What one photograph adds: where the head is, what is worn and held, light and camera."""

    centre: tuple[float, float]  # of the face, fractions of width and height
    face_fraction: float  # the face oval over the picture area
    roll: float  # radians, head tilted in the picture plane
    yaw: float  # radians, positive turns the face to the right of the picture
    pitch: float  # positive looks down
    smile: float  # -1..1
    mouth_open: float  # 0..1
    eye_open: float  # 0..1
    eyewear: str
    headwear: str
    in_front: str
    cloth: Colour
    accessory: Colour  # hats, cups, medical masks
    shoulder_width: float
    light_angle: float  # radians, where the light comes from
    light_strength: float  # 0..1
    warmth: float  # positive is redder, negative bluer
    exposure: float
    cast_shadow: float  # 0..1, darkness of a shadow falling across the picture
    blur: float  # pixels of the delivered picture
    motion: float  # pixels
    noise: float  # grey levels
    jpeg_quality: int


def sample_person(rng: np.random.Generator) -> Person:
    """Draw the traits of one person."""
    tone = rng.random()
    skin = _between(SKIN_TONES, tone) + rng.normal(0, 4, 3)
    hair_style = str(rng.choice(HAIR_STYLES, p=[0.08, 0.07, 0.2, 0.14, 0.08, 0.12, 0.16, 0.07, 0.08]))
    lips = skin * (0.93, 0.66, 0.65) if rng.random() < 0.75 else rng.uniform((120, 15, 30), (210, 70, 90))
    beards = (0.55, 0.15, 0.08, 0.1, 0.12) if hair_style not in (*LONG_HAIR, "bun") else (0.95, 0.05, 0, 0, 0)
    return Person(
        skin=_colour(skin),
        face_aspect=rng.uniform(1.22, 1.48),
        jaw=rng.uniform(0.1, 0.38),
        squareness=rng.uniform(1.95, 2.5),
        hair_style=hair_style,
        hair_colour=_colour(_hair_colour(rng, tone) * rng.uniform(0.8, 1.15)),
        curl=1.0 if hair_style == "afro" else rng.uniform(0, 1) ** 2,
        hairline={"fringe": -0.36, "receding": -0.86}.get(hair_style, -0.64) + rng.uniform(-0.07, 0.07),
        hair_volume=0.03 if hair_style == "buzz" else rng.uniform(0.1, 0.32),
        parting=rng.uniform(-0.6, 0.6),
        brow_thickness=rng.uniform(0.025, 0.055),
        brow_tilt=rng.normal(0.06, 0.07),
        eye_spacing=rng.uniform(0.37, 0.45),
        eye_size=rng.uniform(0.85, 1.15),
        eye_colour=_colour(rng.choice(EYE_COLOURS)),
        nose_width=rng.uniform(0.15, 0.25),
        nose_length=rng.uniform(0.36, 0.46),
        mouth_width=rng.uniform(0.29, 0.4),
        lip_colour=_colour(lips),
        beard=str(rng.choice(BEARDS, p=beards)),
        eyewear=str(rng.choice(EYEWEAR, p=[0.65, 0.18, 0.15, 0.02])),
    )


def sample_scene(rng: np.random.Generator, person: Person) -> Scene:
    """Draw the circumstances of one photograph of the person."""
    wears_own = rng.random() < 0.85
    eyewear = "dark" if rng.random() < 0.06 else person.eyewear if wears_own else "none"
    return Scene(
        centre=tuple(np.clip(rng.normal((0.5, 0.46), (0.08, 0.05)), 0.3, 0.7).tolist()),
        face_fraction=rng.uniform(0.11, 0.36),
        roll=rng.normal(0, 0.15),
        yaw=float(np.clip(rng.normal(0, 0.26), -0.55, 0.55)),
        pitch=rng.normal(0, 0.4),
        smile=rng.uniform(-0.4, 1),
        mouth_open=max(0.0, rng.uniform(-1.2, 1)),
        eye_open=0.1 if rng.random() < 0.06 else rng.uniform(0.7, 1.1),
        eyewear=eyewear,
        headwear=str(rng.choice(HEADWEAR, p=[0.74, 0.07, 0.06, 0.04, 0.05, 0.04])),
        in_front=str(rng.choice(IN_FRONT, p=[0.58, 0.17, 0.05, 0.05, 0.04, 0.05, 0.06])),
        cloth=_colour(any_colour(rng, 0.06)),
        accessory=_colour(any_colour(rng, 0.06)),
        shoulder_width=rng.uniform(1.9, 2.7),
        light_angle=rng.uniform(0, 2 * np.pi),
        light_strength=rng.uniform(0.1, 1),
        warmth=rng.normal(0, 0.07),
        exposure=rng.uniform(0.68, 1.12),
        cast_shadow=rng.uniform(0.25, 0.65) if rng.random() < 0.25 else 0.0,
        blur=rng.uniform(0.3, 1.3) if rng.random() < 0.4 else 0.0,
        motion=rng.uniform(2, 5) if rng.random() < 0.08 else 0.0,
        noise=rng.uniform(1, 9),
        jpeg_quality=int(rng.integers(45, 96)),
    )


def any_colour(rng, skin_chance: float) -> np.ndarray:
    """A colour (3,), with the given chance close to a skin tone."""
    if rng.random() < skin_chance:
        return np.clip(np.array(rng.choice(SKIN_TONES)) * rng.uniform(0.7, 1.1) + rng.normal(0, 6, 3), 5, 250)
    colour = rng.uniform(15, 240, 3)
    # Mixed with its grey: most things in photographs are not vivid.
    return colour + rng.uniform(0, 0.75) * (colour.mean() - colour)


def _hair_colour(rng, tone: float) -> np.ndarray:
    """A hair colour (3,); blond and red become rare with darker skin, grey does not."""
    light = 1.2 - tone
    chances = np.array([1, 1, 1, light, light, 0.6 * light, 0.6, 0.4])
    return np.array(HAIR_COLOURS[rng.choice(len(HAIR_COLOURS), p=chances / chances.sum())], float)


def _between(palette, position: float) -> np.ndarray:
    """The colour (3,) at a position in 0..1 along a palette, interpolated."""
    steps = np.linspace(0, 1, len(palette))
    return np.array([np.interp(position, steps, channel) for channel in zip(*palette, strict=True)])


def _colour(values) -> Colour:
    red, green, blue = np.clip(values, 6, 252)
    return float(red), float(green), float(blue)
