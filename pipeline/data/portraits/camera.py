"""From the painted scene to the delivered picture: light, lens, sensor noise and compression."""

import cv2
import numpy as np

from pipeline.data.portraits.canvas import Canvas, planes
from pipeline.data.portraits.people import Scene


def photograph(canvas: Canvas, scene: Scene, shape: tuple[int, int], rng) -> tuple[np.ndarray, np.ndarray]:
    """Develop the canvas into RGB uint8 (H, W, 3) and a mask uint8 (H, W) of 0/1, both of the given shape."""
    height, width = shape
    # At most 2 to 1, where interpolating linearly is as good as averaging.
    image = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in canvas.image]
    face = cv2.resize(canvas.face, (width, height), interpolation=cv2.INTER_LINEAR)
    image = lens(cv2.merge(list(image * light(scene, shape, rng))), scene, rng)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(scene.noise)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return compress(image, scene.jpeg_quality), (face > 127).astype(np.uint8)


def light(scene: Scene, shape: tuple[int, int], rng) -> np.ndarray:
    """Factors (3, H, W) float32: colour temperature, exposure, fall-off from the lit side, a cast shadow."""
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    towards = columns * np.float32(np.cos(scene.light_angle)) + rows * np.float32(np.sin(scene.light_angle))
    brightness = scene.exposure * (1 + 0.15 * scene.light_strength * towards)
    angle, offset, softness = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.4), rng.uniform(0.03, 0.4)
    depth = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle)) - offset
    brightness = brightness * (1 - scene.cast_shadow * np.clip(depth / softness, 0, 1))
    return planes((1 + scene.warmth, 1, 1 - scene.warmth)) * brightness.astype(np.float32)


def lens(image: np.ndarray, scene: Scene, rng) -> np.ndarray:
    """Blur of a missed focus and of a shaken camera."""
    if scene.blur:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur)
    if scene.motion:
        size = 2 * round(scene.motion) + 1
        kernel = np.zeros((size, size), np.float32)
        reach = np.array([np.cos(angle := rng.uniform(0, np.pi)), np.sin(angle)]) * scene.motion / 2
        start, stop = np.round(size // 2 - reach).astype(int), np.round(size // 2 + reach).astype(int)
        cv2.line(kernel, start.tolist(), stop.tolist(), 1.0)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    return image


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """The RGB uint8 image after JPEG compression at the quality."""
    done, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"JPEG encoding failed for an image of shape {image.shape}")
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[:, :, ::-1].copy()


def upload_again(image: np.ndarray, rng) -> np.ndarray:
    """The same photograph after another app touched it: tone, size there and back, compression."""
    height, width = image.shape[:2]
    gain = rng.uniform(0.94, 1.06) * rng.uniform(0.985, 1.015, 3)
    toned = np.clip(image * gain + rng.uniform(-4, 4), 0, 255).astype(np.uint8)
    scale = rng.uniform(0.75, 0.95)
    smaller = cv2.resize(toned, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    restored = cv2.resize(smaller, (width, height), interpolation=cv2.INTER_LINEAR)
    return compress(restored, int(rng.integers(60, 92)))
