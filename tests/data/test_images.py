import contextlib
import io
import os
import socket
import struct

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.data.folders import by_stem, list_images
from pipeline.data.images import (
    Reading,
    ValueRange,
    decoding_memory,
    mask_edges,
    perceptual_hash,
    read_class_map,
    read_image,
    read_size,
    value_extremes,
)
from pipeline.errors import DataError
from pipeline.rle import from_edges
from tests.pngs import SIGNATURE, png_chunk, write_grey_png

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
    assert np.array_equal(read_class_map(path).values, upright)


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


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
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
    photograph = read_image(path, reading=Reading(values=ValueRange(0, 23 * 2500)))
    expected = np.rint(upright / (23 * 2500) * 255)
    assert np.array_equal(photograph.pixels, np.repeat(expected[..., None], 3, axis=2))


DEEP = np.arange(-12, 12).reshape(6, 4) * 40


def write_deep(path, kind):
    """An image with the values of ``DEEP``, or 480 more where they are unsigned; returns what was written."""
    if kind == "png":
        values = (DEEP + 480).astype(np.uint16)
        path.write_bytes(imagecodecs.png_encode(values))
        return values
    if kind == "png colours":
        values = np.stack([DEEP + 480, DEEP[::-1] + 480, DEEP[:, ::-1] + 480], axis=-1).astype(np.uint16)
        path.write_bytes(imagecodecs.png_encode(values))
        return values
    dtype = np.dtype(kind)
    values = (DEEP + 480 if dtype.kind == "u" else DEEP).astype(dtype)
    tifffile.imwrite(path, values, byteorder=">" if kind[0] == ">" else "<", compression="lzw")
    return values


@pytest.mark.parametrize("kind", ["png", "png colours", "<u2", ">u2", "<i2", ">i2", "<u4", "<i4", "<f2", "<f4", "<f8"])
def test_deep_values_keep_all_their_levels_on_the_scale(tmp_path, kind):
    path = tmp_path / ("a.png" if "png" in kind else "a.tif")
    written = write_deep(path, kind).astype(float)
    extremes = value_extremes(path)
    assert (extremes.low, extremes.high) == (written.min(), written.max())
    pixels = read_image(path, reading=Reading(values=ValueRange(-480, 720))).pixels
    expected = np.rint(np.clip((written + 480) / 1200, 0, 1) * 255)
    assert np.array_equal(pixels, expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("kind", "words"), [("png", "16-bit"), ("<i2", "16-bit signed"), ("<f4", "32-bit float"), ("<i1", "8-bit signed")]
)
def test_deep_values_without_a_scale_are_refused_in_words(tmp_path, kind, words):
    path = tmp_path / ("a.png" if kind == "png" else "a.tif")
    tifffile.imwrite(path, DEEP.astype(np.int8)) if kind == "<i1" else write_deep(path, kind)
    with pytest.raises(DataError, match=rf"a\.(png|tif): has {words} values, the experiment's images have 8 bits"):
        read_image(path)


def test_8_bits_are_not_taken_for_deep_values(tmp_path):
    path = save(tmp_path / "a.png", picture())
    with pytest.raises(DataError, match=r"a\.png: has 8 bits a channel, .* values from 0 to 1008: they are not on one"):
        read_image(path, reading=Reading(values=ValueRange(0, 1008)))


def test_values_that_are_no_numbers_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, np.nan]], np.float32))
    with pytest.raises(DataError, match=r"a\.tif: has values that are no finite numbers"):
        value_extremes(tmp_path / "a.tif")


def test_white_is_white_whatever_number_stands_for_it(tmp_path):
    values = np.arange(24, dtype=np.uint16).reshape(6, 4)
    for dtype, scale in ((np.uint8, None), (np.uint16, ValueRange(0, 65535))):
        inverted = (np.iinfo(dtype).max - values).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", inverted, photometric="miniswhite")
        expected = values if scale is None else np.rint(values * (255 / 65535))
        assert np.array_equal(read_image(tmp_path / "a.tif", reading=Reading(values=scale)).pixels[..., 0], expected)


@pytest.mark.parametrize("options", [{"tile": (64, 48)}, {"rowsperstrip": 17}, {"rowsperstrip": 200}])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
def test_tiffs_are_read_strip_by_strip_and_tile_by_tile(tmp_path, options, planar, compression):
    upright = picture(200, 150)
    stored = np.moveaxis(upright, 2, 0) if planar else upright
    form = {"photometric": "rgb", "planarconfig": "separate" if planar else "contig", "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", stored, predictor=compression is not None, **form, **options)
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, upright)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=r"cut\.tif: cannot be decoded"):
        read_image(tmp_path / "cut.tif")


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        file.write(picture(200, 150), tile=(64, 64))
        file.write(picture(100, 75), subfiletype=1)
    assert read_image(tmp_path / "pyramid.tif").pixels.shape == (200, 150, 3)


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_large_images_are_shrunk_as_they_are_decoded(tmp_path, monkeypatch, suffix, orientation):
    monkeypatch.setattr("pipeline.data.images.LARGE", 1000)
    monkeypatch.setattr("pipeline.data.image_files.BAND_PIXELS", 700)
    monkeypatch.setattr("pipeline.data.tiff_files.BAND_PIXELS", 700)
    upright = picture(203, 151)
    path = save(tmp_path / f"a.{suffix}", STORED[orientation](upright), orientation)
    photograph = read_image(path, at_least=(32, 16))
    assert (photograph.height, photograph.width) == (203, 151)
    height, width = photograph.pixels.shape[:2]
    assert 64 <= height < 203
    assert 32 <= width < 151
    exact = cv2.resize(upright.astype(float), (width, height), interpolation=cv2.INTER_AREA)
    assert np.abs(photograph.pixels - exact).max() <= 0.51


# ------------------------------------------------------------------------------- what an image cannot be read without


def write_frames(path, count=3, kind=None):
    first, *others = (Image.fromarray(picture(seed=number)) for number in range(count))
    first.save(path, kind, save_all=True, append_images=others, duration=100)


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a.png"])
def test_several_pages_or_frames_are_refused_with_their_number(tmp_path, name):
    write_frames(tmp_path / name)
    for read in (read_image, read_class_map):
        with pytest.raises(DataError, match=rf"{name}: has 3 pages or frames"):
            read(tmp_path / name)
    assert read_size(tmp_path / name) == (120, 90)


@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"ome": True, "metadata": {"axes": "ZYX"}}, {"photometric": "minisblack"}]
)
def test_stacks_are_refused_with_their_number(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 30, 20), np.uint16), **options)
    with pytest.raises(DataError, match=r"a\.tif: has 5 pages or frames"):
        read_image(tmp_path / "a.tif")


def test_pages_that_go_round_in_a_circle_are_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([picture()] * 2), photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offsets = [page.offset for page in file.pages]
        entries = len(file.pages[1].tags)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<I", content, offsets[1] + 2 + 12 * entries, offsets[0])
    (tmp_path / "a.tif").write_bytes(content)
    for read in (read_size, read_image):
        with pytest.raises(DataError, match=r"a\.tif: cannot be decoded: its pages go round in a circle"):
            read(tmp_path / "a.tif")


def test_previews_of_a_photograph_are_no_pages(tmp_path):
    write_frames(tmp_path / "a.jpg", 2, "MPO")
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    assert read_image(tmp_path / "a.jpg").pixels.shape == (120, 90, 3)


@pytest.mark.parametrize("alpha", ["varies", "constant"])
@pytest.mark.parametrize(
    "kind", ["RGBA.png", "LA.png", "RGBA.webp", "RGBA.tif", "P.png", "bands.tif", "deep.png", "P.gif"]
)
def test_a_further_channel_is_refused_unless_it_says_nothing(tmp_path, kind, alpha):
    mode, suffix = kind.split(".")
    path, rgb = tmp_path / f"a.{suffix}", picture()
    further = rgb[..., :1] if alpha == "varies" else np.full_like(rgb[..., :1], 255)
    four = np.concatenate([rgb, further], axis=2)
    if mode == "bands":
        tifffile.imwrite(path, four, photometric="rgb", extrasamples=["unspecified"])
    elif mode == "deep":
        path.write_bytes(imagecodecs.png_encode(four.astype(np.uint16) * 257))
    elif mode == "P":
        image = Image.fromarray(rgb[..., 0] // 64 * 60).convert("P")
        image.save(path, transparency=0 if alpha == "varies" else 255)
    else:
        Image.fromarray(four).convert(mode).save(path, lossless=True)
    reading = Reading(values=ValueRange(0, 65535) if mode == "deep" else None)
    if alpha == "varies":
        with pytest.raises(DataError, match=r"a\.\w+: has [124] channels? \(.*\), .*not constant"):
            read_image(path, reading=reading)
    elif mode not in ("LA", "P"):
        assert np.array_equal(read_image(path, reading=reading).pixels, rgb)
    else:
        assert read_image(path, reading=reading).pixels.shape == rgb.shape


@pytest.mark.parametrize(("channels", "words"), [(5, "5 channels"), (2, "2 channels")])
def test_bands_that_rgb_has_no_place_for_are_counted(tmp_path, channels, words):
    bands = np.arange(30 * 20 * channels, dtype=np.uint16).reshape(30, 20, channels)
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match=rf"a\.tif: has {words}"):
        read_image(tmp_path / "a.tif", reading=Reading(values=ValueRange(0, 65535)))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_refused(tmp_path, suffix):
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / f"a.{suffix}")
    with pytest.raises(DataError, match=rf"a\.{suffix}: has 4 channels \(CMYK\)"):
        read_image(tmp_path / f"a.{suffix}")


# ------------------------------------------------------------------------------------------------- EXIF orientation


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_pictures_come_as_stored_where_exif_is_to_be_ignored(tmp_path, orientation, suffix):
    stored = np.ascontiguousarray(STORED[orientation](picture()))
    path = save(tmp_path / f"a.{suffix}", stored, orientation)
    photograph = read_image(path, reading=Reading("ignore"))
    assert (photograph.height, photograph.width) == read_size(path, "ignore") == stored.shape[:2]
    if suffix != "jpg":
        assert np.array_equal(photograph.pixels, stored)
        save(path, stored[..., 0], orientation)
        assert np.array_equal(read_class_map(path, "ignore").values, stored[..., 0])


@pytest.mark.parametrize("kind", ["eXIf", "iTXt"])
def test_an_orientation_behind_a_png_is_found_without_decoding_it(tmp_path, kind, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<rdf:Description tiff:Orientation="6"/>'
    save(tmp_path / "a.png", picture())
    plain = (tmp_path / "a.png").read_bytes()
    chunk = png_chunk(b"eXIf", exif.tobytes()[6:]) if kind == "eXIf" else png_chunk(b"iTXt", xmp)
    (tmp_path / "a.png").write_bytes(plain[:-12] + chunk + plain[-12:])
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, np.rot90(picture(), -1))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert read_size(tmp_path / "a.png") == (90, 120)


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
    path.write_bytes(SIGNATURE + png_chunk(b"IHDR", bytes(5)))
    with pytest.raises(DataError, match=r"short\.png: Truncated IHDR chunk"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_size, read_class_map])
def test_a_missing_file_and_a_folder_are_named(tmp_path, read):
    with pytest.raises(DataError, match=r"none\.jpg: no such file"):
        read(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="is a folder, not an image file"):
        read(tmp_path)


@pytest.mark.parametrize("read", [read_image, read_size, read_class_map])
@pytest.mark.parametrize("kind", ["FIFO", "socket", "device"])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path, read, kind):
    path = tmp_path / "a.png"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=rf"a\.png: is a {kind}, not an image file"):
        read(path)


@pytest.mark.parametrize("kind", ["EPS", "AVIF", "PPM"])
def test_other_kinds_of_images_are_named_whatever_their_suffix(tmp_path, kind, monkeypatch):
    Image.fromarray(picture()).save(tmp_path / "a.png", kind)
    monkeypatch.setattr("subprocess.check_call", None)  # Ghostscript
    with pytest.raises(DataError, match=rf"a\.png: not an image of JPEG, PNG, TIFF, WEBP, GIF or BMP; it is {kind}"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_damaged_files_are_one_error_each(tmp_path, kind):
    Image.fromarray(picture(40, 30)).save(tmp_path / "whole", kind)
    whole, rng = bytearray((tmp_path / "whole").read_bytes()), np.random.default_rng(0)
    for number in range(200):
        damaged = whole.copy()
        for place in rng.integers(0, min(len(whole), 300), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(damaged)
        for read in (read_image, read_size, read_class_map):
            with contextlib.suppress(DataError):
                read(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_of_several_channels_is_refused(tmp_path, mode):
    path = tmp_path / "mask.png"
    Image.new(mode, (8, 6)).save(path)
    with pytest.raises(DataError, match=rf"mask\.png: a mask needs 1 channel, this file has {len(mode)} channels"):
        read_class_map(path)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_mask_of_other_than_whole_numbers_is_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "mask.tif", np.zeros((6, 8), dtype))
    with pytest.raises(
        DataError, match=r"mask\.tif: a mask needs 1 channel of whole numbers, .* (16-bit signed|32-bit float)"
    ):
        read_class_map(tmp_path / "mask.tif")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_masks_give_their_values_as_stored(tmp_path, bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, (7, 13))
    write_grey_png(tmp_path / "mask.png", values, bits)
    mask = read_class_map(tmp_path / "mask.png")
    assert np.array_equal(mask.values, values)
    assert mask.white == 2**bits - 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_masks_of_few_bits_give_their_indices(tmp_path, bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, (7, 13), dtype=np.uint8)
    image = Image.fromarray(values).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette([200, 10, 10] * 2**bits)
    image.save(tmp_path / "mask.png", bits=bits)
    assert np.array_equal(read_class_map(tmp_path / "mask.png").values, values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_white_is_foreground_whatever_the_bits(tmp_path, bits):
    truth = np.eye(9, dtype=int)
    write_grey_png(tmp_path / "mask.png", truth * (2**bits - 1), bits)
    mask = read_class_map(tmp_path / "mask.png")
    for rule in ("0/255", 128):
        assert np.array_equal(from_edges(mask_edges(mask, rule, tmp_path, "rule"), (9, 9)), truth)
    write_grey_png(tmp_path / "mask.png", truth, bits)
    mask = read_class_map(tmp_path / "mask.png")
    assert np.array_equal(from_edges(mask_edges(mask, "0/1", tmp_path, "rule"), (9, 9)), truth)
    if bits > 1:
        with pytest.raises(DataError, match="has the value 1, rule allows 0/255; 0/1 fits it"):
            mask_edges(mask, "0/255", tmp_path, "rule")


def test_16_bit_masks_of_8_bits_are_two_values_or_doubtful(tmp_path):
    truth = np.eye(9, dtype=int)
    write_grey_png(tmp_path / "mask.png", truth * 255, 16)
    mask = read_class_map(tmp_path / "mask.png")
    assert np.array_equal(from_edges(mask_edges(mask, "0/255", tmp_path, "rule"), (9, 9)), truth)
    with pytest.raises(DataError, match="has 16 bits and no value above 255, of 65535"):
        mask_edges(mask, 128, tmp_path, "rule")
    write_grey_png(tmp_path / "mask.png", truth * 255 + truth[::-1] * 65280, 16)
    with pytest.raises(DataError, match="has the values 255, 65280, rule allows 0/255"):
        mask_edges(read_class_map(tmp_path / "mask.png"), "0/255", tmp_path, "rule")


def test_gif_masks_give_their_indices(tmp_path):
    truth = np.eye(9, dtype=np.uint8)
    image = Image.fromarray(truth).convert("P")
    image.putdata(truth.ravel().tolist())
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "mask.gif")
    assert np.array_equal(read_class_map(tmp_path / "mask.gif").values > 0, truth > 0)


def test_a_palette_mask_gives_its_indices(tmp_path):
    indices = np.arange(48, dtype=np.uint8).reshape(6, 8) % 9
    image = Image.frombytes("P", (8, 6), indices.tobytes())
    image.putpalette([200, 10, 10] * 256)
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_class_map(tmp_path / "mask.png").values, indices)


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


def test_the_memory_of_an_image_on_its_side_is_that_of_the_size_which_it_is_read_at(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (6000, 3000)).save(tmp_path / "a.png", exif=exif)
    upright, stored = (decoding_memory(tmp_path / "a.png", (64, 1024), exif) for exif in ("apply", "ignore"))
    assert upright == decoding_memory(tmp_path / "a.png", (1024, 64), "ignore") > stored
