import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.folders import by_stem, list_images
from pipeline.data.images import perceptual_hash, read_class_map, read_image, read_size
from pipeline.errors import DataError

# How an upright picture lies in a file, by EXIF orientation: where the file's first row and column are.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def picture(height=120, width=90, seed=0):
    """Smooth colours without any symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def save(path, pixels, orientation=None, **options):
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if orientation:
        options["exif"] = image.getexif()
        options["exif"][0x0112] = orientation
    image.save(path, **options)
    return path


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_pictures_come_upright(tmp_path, orientation, suffix):
    upright = picture()
    path = save(tmp_path / f"a.{suffix}", STORED[orientation](upright), orientation, lossless=True)
    photograph = read_image(path)
    assert np.array_equal(photograph.pixels, upright)
    assert (photograph.height, photograph.width) == read_size(path) == (120, 90)


@pytest.mark.parametrize("orientation", STORED)
def test_masks_come_upright(tmp_path, orientation):
    upright = picture()[..., 0]
    path = save(tmp_path / "a.png", STORED[orientation](upright), orientation)
    assert np.array_equal(read_class_map(path), upright)


@pytest.mark.parametrize("orientation", STORED)
def test_a_reduced_decoding_keeps_the_full_size_and_the_picture(tmp_path, orientation):
    upright = picture(800, 600)
    path = save(tmp_path / "a.jpg", STORED[orientation](upright), orientation, quality=95)
    reduced, full = read_image(path, at_least=(96, 64)), read_image(path)
    assert (reduced.height, reduced.width) == (full.height, full.width) == (800, 600)
    assert full.pixels.shape == (800, 600, 3)
    height, width = reduced.pixels.shape[:2]
    assert 2 * 96 <= height < 800
    assert 64 <= width < 600
    expected = cv2.resize(full.pixels, (width, height), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(reduced.pixels - expected).mean() < 2


def test_a_small_jpeg_is_not_reduced(tmp_path):
    path = save(tmp_path / "a.jpg", picture())
    assert read_image(path, at_least=(384, 384)).pixels.shape == (120, 90, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "a.tif"
    Image.fromarray(picture()).convert(mode).save(path)
    pixels = read_image(path).pixels
    assert pixels.shape == (120, 90, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize(("suffix", "orientation"), [("png", None), ("png", 6), ("tif", None)])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix, orientation):
    upright = np.arange(24, dtype=np.uint16).reshape(6, 4) * 2500
    stored = STORED[orientation or 1](upright)
    path = save(tmp_path / f"a.{suffix}", stored, orientation)
    assert np.array_equal(read_image(path).pixels, np.repeat((upright // 256)[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_of_unknown_range_are_refused(tmp_path, dtype):
    path = save(tmp_path / "a.tif", np.ones((6, 4), dtype))
    with pytest.raises(DataError, match=r"a\.tif: an image needs 8 or 16 bits a channel, this file has mode [IF]$"):
        read_image(path)


def test_a_truncated_jpeg_is_named(tmp_path):
    path = save(tmp_path / "cut.jpg", picture(400, 300))
    path.write_bytes(path.read_bytes()[:-200])
    for at_least in (None, (32, 32)):
        with pytest.raises(DataError, match=r"cut\.jpg: cannot be decoded: .*truncated"):
            read_image(path, at_least)


def test_a_truncated_png_mask_is_named(tmp_path):
    path = save(tmp_path / "cut.png", picture()[..., 0])
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"cut\.png: cannot be decoded"):
        read_class_map(path)


@pytest.mark.parametrize("read", [read_image, read_size, read_class_map])
@pytest.mark.parametrize("content", [b"no picture at all\n", b""], ids=["text", "empty"])
def test_a_file_that_is_no_image_is_named(tmp_path, read, content):
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"text\.jpg: not an image"):
        read(path)


def test_an_image_may_have_as_many_pixels_as_a_mask_can(tmp_path):
    path = tmp_path / "slide.bmp"

    def write_header(height, width):
        path.write_bytes(struct.pack("<2s6I2H6I", b"BM", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0))

    for size in ((30_000, 20_000), (65_535, 65_537)):
        write_header(*size)
        assert read_size(path) == size
    write_header(65_536, 65_536)
    with pytest.raises(DataError, match=r"slide\.bmp: has 65536 x 65536 pixels .*, more than 4294967295"):
        read_size(path)


def test_a_damaged_header_is_named(tmp_path):
    path = tmp_path / "short.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s5sI", 5, b"IHDR", b"", zlib.crc32(b"IHDR" + bytes(5))))
    with pytest.raises(DataError, match=r"short\.png: Truncated IHDR chunk"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_size, read_class_map])
def test_a_missing_file_and_a_folder_are_named(tmp_path, read):
    with pytest.raises(DataError, match=r"none\.jpg: no such file"):
        read(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_a_mask_of_several_channels_or_wide_values_is_refused(tmp_path, mode):
    path = tmp_path / "mask.png"
    Image.new(mode, (8, 6)).save(path)
    with pytest.raises(DataError, match=rf"mask\.png: a mask needs one 8-bit channel, this file has mode {mode}"):
        read_class_map(path)


def test_a_palette_mask_gives_its_indices(tmp_path):
    indices = np.arange(48, dtype=np.uint8).reshape(6, 8) % 9
    image = Image.frombytes("P", (8, 6), indices.tobytes())
    image.putpalette([200, 10, 10] * 256)
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_class_map(tmp_path / "mask.png"), indices)


def test_a_one_bit_mask_gives_0_and_255(tmp_path):
    truth = np.eye(9, dtype=bool)
    Image.fromarray(truth).save(tmp_path / "mask.png")
    assert np.array_equal(read_class_map(tmp_path / "mask.png"), truth * np.uint8(255))


def test_images_are_listed_sorted_and_without_other_files(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", "c.jpeg"):
        (tmp_path / name).touch()
    assert list(list_images(tmp_path)) == ["a.png", "b.JPG", "c.jpeg"]
    assert list(by_stem(list_images(tmp_path))) == ["a", "b", "c"]
    with pytest.raises(DataError, match="no such folder of images"):
        list_images(tmp_path / "none")


def test_two_files_with_one_id_are_named(tmp_path):
    for name in ("a.jpg", "a.png", "b.png"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"a\.jpg and a\.png"):
        by_stem(list_images(tmp_path))


def recompressed(pixels, quality, scale):
    """Resized and saved as JPEG once more."""
    height, width = pixels.shape[:2]
    resized = Image.fromarray(pixels).resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    resized.save(buffer := io.BytesIO(), "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize(("quality", "scale"), [(95, 1), (60, 1), (80, 0.5), (80, 2), (50, 0.7)])
def test_the_hash_survives_another_upload(quality, scale):
    for seed in range(5):
        pixels = picture(240, 200, seed)
        again = recompressed(pixels, quality, scale)
        assert (perceptual_hash(pixels) ^ perceptual_hash(again)).bit_count() <= 4


def test_the_hashes_of_different_pictures_are_far_apart():
    hashes = [perceptual_hash(picture(seed=seed)) for seed in range(12)]
    distances = [(a ^ b).bit_count() for n, a in enumerate(hashes) for b in hashes[n + 1 :]]
    assert min(distances) > 10
    assert all(0 <= value < 2**64 for value in hashes)
