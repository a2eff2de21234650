import numpy as np
import pytest
import torch

from pipeline.config import PredictionSettings
from pipeline.errors import DataError
from pipeline.geometry import Tiling, restore, shrink
from pipeline.learning.inference import Views, in_tiles, make_engines, predict_batches
from pipeline.members import view_names
from pipeline.metrics import Counts, dice


class LeftIsBrighter(torch.nn.Module):
    """Logits that depend on the column: any error in undoing the flip shows."""

    def forward(self, images):
        columns = torch.linspace(2, -2, images.shape[-1])
        return columns + images.float().mean(1, keepdim=True) / 255


def predict_apart(
    images, rows, *, flip, network=None, mirrored=(0,), scales=(1.0,), tile=None, batch_size=4, separate=True
):
    rows = np.asarray(rows)
    views = Views(scales, flip, list(mirrored), Tiling(tile or images.shape[1:3], 0.25), separate)
    network = network or LeftIsBrighter()
    engines = make_engines(
        network, images, rows, count=len(rows), options=PredictionSettings(engine="torch"), views=views
    )
    batches = predict_batches(engines, images, rows, batch_size=batch_size, workers=0, views=views)
    return np.concatenate(list(batches), axis=1)


def predict(*args, **options):
    (mean,) = predict_apart(*args, separate=False, **options)
    return mean


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 8, 6, 3), dtype=np.uint8)


def test_maps_come_in_the_order_of_the_rows_whatever_the_batch_size(images):
    rows = [5, 0, 3, 3, 6]
    whole = predict(images, rows, batch_size=8, flip=False)
    assert whole.shape == (5, 8, 6)
    assert whole.dtype == np.uint8
    assert np.array_equal(whole, predict(images, rows, batch_size=2, flip=False))
    assert np.array_equal(whole[2], whole[3])


def test_bytes_are_rounded_probabilities(images):
    logits = np.linspace(2, -2, 6, dtype=np.float32) + images[4].mean(-1) / 255
    expected = np.rint(255 / (1 + np.exp(-logits)))
    assert np.abs(predict(images, [4], batch_size=1, flip=False)[0] - expected).max() <= 1


class Overflown(torch.nn.Module):
    """What fp16 makes of large features: infinity, less infinity."""

    def forward(self, images):
        return torch.full((len(images), 1, *images.shape[-2:]), float("nan"))


def test_a_prediction_that_is_not_a_number_is_refused(images):
    with pytest.raises(DataError, match=r"torch .* that is not a number: set prediction.precision=fp32"):
        predict(images, [0], flip=False, network=Overflown())


def test_the_flipped_view_is_flipped_back(images):
    symmetric = np.concatenate([images, images[:, :, ::-1]], axis=2)
    maps = predict(symmetric, range(7), batch_size=3, flip=True)
    assert np.array_equal(maps, maps[:, :, ::-1])


class LeftAndRightHalf(torch.nn.Module):
    """Two classes: the left half is one, the right half the other."""

    def forward(self, images):
        left = torch.linspace(3, -3, images.shape[-1]).expand(len(images), images.shape[-2], -1)
        return torch.stack([left, -left], dim=1)


def test_each_class_has_a_map_and_mirrored_views_exchange_left_and_right(images):
    plain = predict(images, [0, 1], network=LeftAndRightHalf(), mirrored=(1, 0), flip=False)
    assert plain.shape == (4, 8, 6)  # both classes of an image, then those of the next one
    assert np.array_equal(plain[0], plain[1][:, ::-1])
    assert plain[0, 0, 0] > 200 > 50 > plain[1, 0, 0]
    assert np.array_equal(plain, predict(images, [0, 1], network=LeftAndRightHalf(), mirrored=(1, 0), flip=True))
    confused = predict(images, [0, 1], network=LeftAndRightHalf(), mirrored=(0, 1), flip=True)
    assert np.abs(confused.astype(int) - 128).max() <= 1


class Bright(torch.nn.Module):
    """Foreground is what is bright, pixel by pixel: tiles must not be seen in the result."""

    def forward(self, images):
        return images.float().mean(1, keepdim=True) / 8 - 16


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.7])
def test_blended_tiles_of_a_network_without_surroundings_are_the_whole(images, overlap):
    whole = torch.from_numpy(np.tile(images, (1, 9, 11, 1))).permute(0, 3, 1, 2)  # 72 x 66
    blended = in_tiles(Bright(), whole, Tiling((32, 32), overlap))
    assert torch.allclose(blended, Bright()(whole), atol=1e-4)


def test_where_tiles_overlap_the_nearer_middle_counts_more():
    """Two tiles that say 0 and 1: in between the answer moves from one to the other without a seam."""
    answers = iter([0.0, 1.0])
    blended = in_tiles(
        lambda tile: torch.full((len(tile), 1, *tile.shape[2:]), next(answers)),
        torch.zeros(1, 3, 32, 48, dtype=torch.uint8),
        Tiling((32, 32), 0.5),
    )[0, 0, 0]
    assert blended[:16].eq(0).all()
    assert blended[-16:].eq(1).all()
    assert (blended[16:32].diff() > 0).all()
    assert blended.diff().max() < 0.08


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_thin_structures_of_a_large_picture_survive_tiles(fit):
    """FullHD with lines two pixels wide: through the network's input in tiles and back to its own pixels."""
    mask = np.zeros((1080, 1920), np.uint8)
    mask[:, 40::120] = mask[:, 41::120] = 255

    def round_trip(size, tile):
        small = shrink(mask, size, fit, height=1080, width=1920)
        images = np.repeat(small[None, ..., None], 3, axis=-1)
        found = predict(images, [0], network=Bright(), flip=True, tile=tile)
        predicted = restore(found[0], 1080, 1920, fit) >= 128
        true = mask > 0
        return dice(Counts((predicted & true).sum(), predicted.sum(), true.sum()))

    assert round_trip((1088, 1920), (384, 384)) > 0.99
    assert round_trip((192, 352), (192, 352)) < 0.8


class OfSize(torch.nn.Module):
    """Tells how high the image is that it sees, and remembers all sizes."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(tuple(images.shape[-2:]))
        return torch.full((len(images), 1, *images.shape[-2:]), images.shape[-2] / 64)


def test_copies_of_several_sizes_are_averaged_at_the_stored_one():
    images = np.zeros((2, 64, 96, 3), np.uint8)
    network = OfSize()
    maps = predict(images, [0, 1], network=network, scales=(0.5, 1.0, 1.5), flip=True)
    assert set(network.seen) == {(32, 64), (64, 96), (96, 128)}  # multiples of 32
    expected = torch.tensor([0.5, 1.0, 1.5]).sigmoid().mean().item()
    assert maps.shape == (2, 64, 96)
    assert np.abs(maps - 255 * expected).max() <= 1


def test_a_larger_copy_of_a_picture_in_tiles_is_cut_into_more_of_them():
    images = np.zeros((1, 64, 64, 3), np.uint8)
    network = OfSize()
    predict(images, [0], network=network, scales=(1.0, 2.0), flip=False, tile=(64, 32))
    assert set(network.seen) == {(64, 32)}
    assert len(network.seen) == 1 * 3 + 3 * 5  # a quarter of neighbours in common


def test_views_apart_come_in_the_order_of_their_names():
    """A network that tells the size that it sees, on the left half only, which a mirrored view has on the right."""

    class Tells(OfSize):
        def forward(self, images):
            left = torch.arange(images.shape[-1]) < images.shape[-1] // 2
            return torch.where(left, super().forward(images), -20.0)

    images = np.zeros((3, 64, 96, 3), np.uint8)
    scales, network = (1.0, 0.5), Tells()
    apart = predict_apart(images, range(3), network=network, scales=scales, flip=True, batch_size=2)
    calls = len(network.seen)
    assert apart.shape == (4, 3, 64, 96)
    for maps, name in zip(apart, view_names(scales, flip=True), strict=True):
        level = 255 / (1 + np.exp(-0.5 if name.startswith("0.5") else -1.0))
        seen = maps[:, :, :32] if not name.endswith("mirrored") else maps[:, :, -32:]
        other = maps[:, :, -32:] if not name.endswith("mirrored") else maps[:, :, :32]
        assert np.abs(seen - level).max() <= 1
        assert other.max() == 0
    averaged = predict(images, range(3), network=network, scales=scales, flip=True, batch_size=2)
    assert len(network.seen) == 2 * calls  # as many for the mean
    assert np.abs(apart.mean(axis=0) - averaged).max() <= 1
