"""Drawn portraits are reproducible, varied, and their masks are exactly the face in view."""

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.data.portraits import draw_empty, draw_portrait, near_duplicate, person_of, render, scene_of
from pipeline.data.portraits.people import HEADWEAR, IN_FRONT

PROJECT = Path(__file__).resolve().parents[2]
SHAPE = (120, 96)
OBJECTS = [name for name in IN_FRONT if name != "nothing"]


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def bare_scene(person: int, photo: int = 0):
    """Traits and a scene with nothing on or before the face."""
    traits = person_of(7, person)
    scene = scene_of(7, person, photo, traits)
    return traits, dataclasses.replace(scene, headwear="none", in_front="nothing", eyewear="none")


def face_area(traits, scene) -> int:
    return int(render(traits, scene, SHAPE, np.random.default_rng(1))[1].sum())


@pytest.fixture(scope="module")
def portraits():
    """60 portraits: 20 people, 3 photographs each."""
    return {(p, n): draw_portrait(7, p, n, SHAPE) for p in range(20) for n in range(3)}


def test_same_arguments_give_the_same_bytes_in_any_order():
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    forward = [digest(*draw_portrait(5, person, 2, SHAPE)) for person in (0, 1, 2)]
    np.random.seed(2)  # noqa: NPY002
    backward = [digest(*draw_portrait(5, person, 2, SHAPE)) for person in (2, 1, 0)]
    assert forward == backward[::-1]
    assert digest(*draw_empty(5, 3, SHAPE)) == digest(*draw_empty(5, 3, SHAPE))


def test_same_bytes_in_another_process():
    code = (
        "import hashlib; from pipeline.data.portraits import draw_portrait;"
        f"image, mask = draw_portrait(5, 1, 2, {SHAPE});"
        "print(hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest())"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == digest(*draw_portrait(5, 1, 2, SHAPE))


def test_every_argument_matters():
    variants = [(5, 1, 2), (6, 1, 2), (5, 2, 2), (5, 1, 3), (5, 2, 1)]
    assert len({digest(*draw_portrait(*arguments, SHAPE)) for arguments in variants}) == len(variants)


@pytest.mark.parametrize("shape", [(64, 64), (65, 97), (200, 160), (151, 233), (320, 240), (64, 700)])
def test_shape_and_type(shape):
    for image, mask in (draw_portrait(1, 2, 3, shape), draw_empty(1, 2, shape)):
        assert (image.shape, image.dtype) == ((*shape, 3), np.uint8)
        assert (mask.shape, mask.dtype) == (shape, np.uint8)
        assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("shape", [(63, 100), (100, 1025)])
def test_size_out_of_range_is_refused(shape):
    with pytest.raises(ValueError, match="64 to 1024"):
        draw_portrait(1, 2, 3, shape)


def test_face_is_neither_tiny_nor_everything(portraits):
    areas = np.array([mask.mean() for _, mask in portraits.values()])
    assert areas.min() > 0.01
    assert areas.max() < 0.45
    assert 0.08 < np.median(areas) < 0.25
    assert areas.std() > 0.03


def test_the_mask_covers_one_place_even_when_cut_by_glasses_or_hands(portraits):
    for _, mask in portraits.values():
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        assert stats[1:, cv2.CC_STAT_AREA].max() > 0.3 * mask.sum()


def test_photographs_of_a_person_differ_and_traits_agree(portraits):
    assert len({digest(*pair) for pair in portraits.values()}) == len(portraits)
    assert person_of(7, 4) == person_of(7, 4)
    assert person_of(7, 4) != person_of(7, 5)
    traits = person_of(7, 4)
    assert scene_of(7, 4, 0, traits) != scene_of(7, 4, 1, traits)


def test_a_face_looks_more_like_itself_than_like_others():
    def cheek_colour(person: int, photo: int) -> np.ndarray:
        traits, scene = bare_scene(person, photo)
        even = dataclasses.replace(scene, exposure=1.0, warmth=0.0, cast_shadow=0.0, light_strength=0.3)
        image, mask = render(dataclasses.replace(traits, beard="none"), even, SHAPE, np.random.default_rng(photo))
        return np.median(image[mask > 0], axis=0)

    colours = np.array([[cheek_colour(person, photo) for photo in range(3)] for person in range(8)])
    within = colours.std(axis=1).mean()
    between = colours.mean(axis=1).std(axis=0).mean()
    assert between > 5 * within


def test_skin_tones_vary(portraits):
    brightness = [image[mask > 0].mean() for image, mask in portraits.values()]
    low, high = np.percentile(brightness, [10, 90])
    assert high - low > 60


def test_traits_and_scenes_come_in_many_kinds():
    people = [person_of(3, number) for number in range(120)]
    scenes = [scene_of(3, number, 0, person) for number, person in enumerate(people)]
    assert len({person.hair_style for person in people}) >= 8
    assert len({person.beard for person in people}) == 5
    assert {scene.in_front for scene in scenes} == set(IN_FRONT)
    assert {scene.headwear for scene in scenes} == set(HEADWEAR)


@pytest.mark.parametrize("thing", OBJECTS)
def test_what_is_in_front_of_the_face_is_not_face(thing):
    kept = []
    for person in range(6):
        traits, scene = bare_scene(person)
        rest = face_area(traits, dataclasses.replace(scene, in_front=thing))
        kept.append(rest / face_area(traits, scene))
    assert max(kept) <= 1
    assert min(kept) >= 0.4
    assert np.mean(kept) < 0.97


@pytest.mark.parametrize("hat", [name for name in HEADWEAR if name != "none"])
def test_hats_are_not_face(hat):
    for person in (0, 1):
        traits, scene = bare_scene(person)
        bald = dataclasses.replace(traits, hair_style="bald")
        assert face_area(bald, dataclasses.replace(scene, headwear=hat)) < face_area(bald, scene)


def test_glasses_and_beards_are_face():
    traits, scene = bare_scene(1)
    shaved = dataclasses.replace(traits, beard="none", hair_style="bald")
    bearded = dataclasses.replace(shaved, beard="full")
    dark_glasses = dataclasses.replace(scene, eyewear="dark")
    assert face_area(bearded, scene) >= face_area(shaved, scene)
    assert face_area(shaved, dark_glasses) >= face_area(shaved, scene)


def test_pictures_without_a_face_have_an_empty_mask():
    pairs = [draw_empty(2, number, SHAPE) for number in range(20)]
    assert not any(mask.any() for _, mask in pairs)
    assert len({digest(image) for image, _ in pairs}) == len(pairs)


def test_near_duplicates_are_close_but_not_the_same_bytes(portraits):
    for number, (image, mask) in enumerate(portraits.values()):
        copy, copied_mask = near_duplicate(image, mask, number)
        assert (copy.shape, copy.dtype) == (image.shape, np.uint8)
        assert not np.array_equal(copy, image)
        assert np.array_equal(copied_mask, mask)
        assert copied_mask is not mask
        small, small_copy = (cv2.resize(x, (9, 8), interpolation=cv2.INTER_AREA).astype(float) for x in (image, copy))
        assert np.abs(small - small_copy).mean() < 20
        assert np.corrcoef(small.ravel(), small_copy.ravel())[0, 1] > 0.98
