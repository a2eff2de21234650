"""Drawn portraits with exact face masks, for tests, demonstrations and benchmarks without any download.

    image, mask = draw_portrait(seed=0, person=3, photo=1, shape=(200, 160))
    image, mask = draw_empty(seed=0, number=5, shape=(160, 240))
    image, mask = near_duplicate(image, mask, seed=0)

image: RGB uint8 (H, W, 3). mask: uint8 (H, W), 1 on the face: its skin, brows, eyes, nose, mouth, beard and
glasses; not on hair, ears, neck, hands, hats, medical masks or other things in front of it.

Every function is pure: the same arguments give the same bytes, whatever was drawn before.
"""

import dataclasses

import numpy as np

from pipeline.data.portraits import head, occluders, props
from pipeline.data.portraits.camera import photograph, upload_again
from pipeline.data.portraits.canvas import Canvas
from pipeline.data.portraits.people import CLOSED_HEADWEAR, Person, Scene, sample_person, sample_scene
from pipeline.data.portraits.scenery import paint_background

__all__ = ["draw_empty", "draw_portrait", "near_duplicate", "person_of", "render", "scene_of"]

SMALLEST_SIDE, LARGEST_SIDE = 64, 1024
SMOOTH_SIDE = 200  # pixels of the shorter side; smaller pictures are painted up to twice as large

# Each use of randomness has its own stream, so that changing one leaves the others alone.
TRAITS, CIRCUMSTANCES, BRUSHWORK, EMPTY, REUPLOAD = range(1, 6)


def draw_portrait(seed: int, person: int, photo: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Photograph number `photo` of person number `person`, and its face mask; shape is (H, W)."""
    traits = person_of(seed, person)
    scene = scene_of(seed, person, photo, traits)
    return render(traits, scene, shape, np.random.default_rng([seed, BRUSHWORK, person, photo]))


def draw_empty(seed: int, number: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A picture without a face: scenery, a head seen from behind, or a hand; the mask is all zero."""
    rng = np.random.default_rng([seed, EMPTY, number])
    person = sample_person(rng)
    scene = sample_scene(rng, person)
    canvas = new_canvas(shape)
    frame = head.HeadFrame.of(person, scene, canvas.shape)
    paint_background(canvas, rng)
    subject = rng.choice(["scenery", "back of a head", "hand"], p=[0.4, 0.4, 0.2])
    if subject == "back of a head":
        paint_from_behind(canvas, person, scene, frame, rng)
    if subject == "hand":
        size, angle = frame.half_width * rng.uniform(0.4, 0.7), rng.uniform(-np.pi, 0)
        palm = frame.at((0, 0))
        hand = occluders.hand_layers(canvas, person.skin, scene.cloth, palm, size, angle, rng)
        for coverage, colour in hand:
            canvas.paint(coverage, colour)
    return photograph(canvas, scene, shape, rng)


def near_duplicate(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same photograph uploaded a second time: other bytes, nearly the same pixels, the same mask."""
    return upload_again(image, np.random.default_rng([seed, REUPLOAD])), mask.copy()


def person_of(seed: int, person: int) -> Person:
    """The traits that all photographs of a person share."""
    return sample_person(np.random.default_rng([seed, TRAITS, person]))


def scene_of(seed: int, person: int, photo: int, traits: Person) -> Scene:
    """The circumstances of one photograph of a person with the traits."""
    return sample_scene(np.random.default_rng([seed, CIRCUMSTANCES, person, photo]), traits)


def render(person: Person, scene: Scene, shape: tuple[int, int], rng) -> tuple[np.ndarray, np.ndarray]:
    """Paint the person in the scene, from back to front, and photograph it: image and mask."""
    # One stream a part: a hat or a hand more does not change the rest of the picture.
    background, behind, body, face, hair, glasses, hat, front, camera = rng.spawn(9)
    canvas = new_canvas(shape)
    frame = head.HeadFrame.of(person, scene, canvas.shape)
    strands = head.hair_texture(person, hair, canvas.shape)
    paint_background(canvas, background)
    if scene.headwear in CLOSED_HEADWEAR:
        props.paint_hood_behind(canvas, scene, frame)
    else:
        head.paint_hair_behind(canvas, person, frame, strands, behind)
    props.paint_clothes(canvas, person, scene, frame, body)
    head.paint_head_behind(canvas, person, frame)
    head.paint_face(canvas, person, scene, frame, face)
    props.paint_eyewear(canvas, scene, frame, glasses)
    if scene.headwear in CLOSED_HEADWEAR:
        tied_back = dataclasses.replace(person, hair_style="short", hair_volume=0.05)
        head.paint_hair_front(canvas, tied_back, frame, strands, hair)
    else:
        head.paint_hair_front(canvas, person, frame, strands, hair)
    props.paint_headwear(canvas, scene, frame, hat)
    occluders.paint_in_front(canvas, person, scene, frame, front)
    return photograph(canvas, scene, shape, camera)


def paint_from_behind(canvas: Canvas, person: Person, scene: Scene, frame: head.HeadFrame, rng) -> None:
    """Somebody who looks away: clothes, ears and a head of hair, a bald head or a hood."""
    texture = head.hair_texture(person, rng, canvas.shape)
    props.paint_clothes(canvas, person, scene, frame, rng)
    head.paint_head_behind(canvas, person, frame)
    if scene.headwear in CLOSED_HEADWEAR:
        canvas.fill(props.hood_outline(frame), scene.accessory, texture)
    elif person.hair_style != "bald":
        crown = frame.oval(0, -0.12, 1.02 + 0.5 * person.hair_volume, 0.95 + 0.5 * person.hair_volume)
        canvas.fill(crown, np.array(person.hair_colour) * head.SHADED_HAIR, texture)
        head.paint_hair_behind(canvas, person, frame, texture, rng)


def new_canvas(shape: tuple[int, int]) -> Canvas:
    """An empty canvas, finer than the picture of shape (H, W) where that is small."""
    height, width = shape
    if not SMALLEST_SIDE <= min(shape) <= max(shape) <= LARGEST_SIDE:
        raise ValueError(f"sides must be {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, got shape {shape}")
    scale = min(2.0, max(1.0, SMOOTH_SIDE / min(shape)))
    return Canvas(round(height * scale), round(width * scale))
