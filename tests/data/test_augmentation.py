import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pipeline.config import AugmentationSettings
from pipeline.data.augmentation import Augmentation
from pipeline.data.dataset import HeldOutImages, TrainingImages, quiet_worker, times_before


@pytest.fixture(scope="module")
def small_copies():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((12, 32, 32, 1), np.uint8)
    masks[:, 8:20, 6:16] = 255
    return images, masks


def epoch_of(small_copies, epoch, workers, seed=1):
    augmentation = Augmentation(AugmentationSettings(), seed, [0])
    data = TrainingImages(*small_copies, np.arange(12), augmentation, epoch)
    loader = DataLoader(data, batch_size=4, num_workers=workers, worker_init_fn=quiet_worker)
    images, masks = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(masks)


def test_the_same_numbers_give_the_same_changes_in_any_order(small_copies):
    images, masks = small_copies
    augment = Augmentation(AugmentationSettings(), seed=5, mirrored=[0])
    first = augment(images[3], masks[3], epoch=2, row=3)
    augment(images[4], masks[4], epoch=2, row=4)
    again = augment(images[3], masks[3], epoch=2, row=3)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_a_row_that_is_drawn_again_is_changed_in_another_way(small_copies):
    augmentation = Augmentation(AugmentationSettings(), 1, [0])
    once = TrainingImages(*small_copies, np.array([3, 7]), augmentation, 0)
    often = TrainingImages(*small_copies, np.array([7, 3, 3, 7, 3]), augmentation, 0)
    assert torch.equal(often[0][0], once[1][0])
    assert torch.equal(often[1][0], once[0][0])
    assert len({often[index][0].numpy().tobytes() for index in range(5)}) == 5


def test_times_before_counts_equal_values():
    assert times_before(np.array([7, 5, 7, 7, 5])).tolist() == [0, 0, 1, 2, 1]
    assert times_before(np.array([], np.int64)).tolist() == []


def test_worker_processes_change_nothing(small_copies):
    alone, shared = epoch_of(small_copies, 0, workers=0), epoch_of(small_copies, 0, workers=2)
    assert torch.equal(alone[0], shared[0])
    assert torch.equal(alone[1], shared[1])


def test_epochs_seeds_and_images_differ(small_copies):
    first, second = epoch_of(small_copies, 0, workers=2)[0], epoch_of(small_copies, 1, workers=2)[0]
    other_seed = epoch_of(small_copies, 0, workers=0, seed=2)[0]
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first, other_seed)
    images, masks = small_copies
    same_image = (np.repeat(images[:1], 12, 0), np.repeat(masks[:1], 12, 0))
    drawn = epoch_of(same_image, 0, workers=2)[0]
    # Each change has its probability, so a few of twelve may by chance have had none.
    assert len({image.numpy().tobytes() for image in drawn}) >= 8


def test_the_mask_moves_with_the_image():
    """The face is the only bright thing: after any change it still is what the mask covers."""
    image = np.full((64, 64, 3), 20, np.uint8)
    image[20:44, 16:40] = 220
    mask = np.where(image[..., :1] > 100, 255, 0).astype(np.uint8)
    augment = Augmentation(AugmentationSettings(), seed=0, mirrored=[0])
    for row in range(20):
        changed, moved = augment(image, mask, epoch=0, row=row)
        bright = changed.mean(-1) > (changed.mean(-1).min() + changed.mean(-1).max()) / 2
        moved = moved[..., 0]
        agreement = 2 * (bright & (moved > 127)).sum() / (bright.sum() + (moved > 127).sum())
        assert agreement > 0.95


@pytest.mark.parametrize("classes", [3, 8])
def test_a_mirrored_image_has_left_and_right_exchanged(classes):
    """More classes than OpenCV's four channels, too; the first two are each other's mirror image."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    masks = rng.integers(0, 2, (32, 40, classes), dtype=np.uint8) * 255
    order = [1, 0, *range(2, classes)]
    none = dict.fromkeys(("scale", "shift", "rotate", "brightness", "contrast", "hue", "saturation"), 0)
    flipped, moved = Augmentation(AugmentationSettings(flip=1, **none), 0, order)(image, masks, epoch=0, row=0)
    assert np.array_equal(flipped, image[:, ::-1])
    assert np.array_equal(moved, masks[:, ::-1][..., order])
    moved = Augmentation(AugmentationSettings(flip=0), 0, order)(image, masks, epoch=0, row=0)[1]
    assert moved.shape == masks.shape


def test_all_strengths_at_zero_change_nothing(small_copies):
    still = AugmentationSettings(flip=0, scale=0, shift=0, rotate=0, brightness=0, contrast=0, hue=0, saturation=0)
    image, mask = (array[0] for array in small_copies)
    for row in range(5):
        changed, moved = Augmentation(still, seed=0, mirrored=[0])(image, mask, epoch=0, row=row)
        assert np.array_equal(changed, image)
        assert np.array_equal(moved, mask)


def test_held_out_images_are_left_alone(small_copies):
    images, masks = small_copies
    image, mask = HeldOutImages(images, masks, np.array([7, 2]))[1]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), images[2])
    assert np.array_equal(mask.permute(1, 2, 0).numpy(), masks[2])
    assert HeldOutImages(images, None, np.array([7]))[0].shape == (3, 32, 32)


def test_tiles_are_cut_anew_each_epoch_half_of_them_with_foreground(small_copies):
    images, masks = small_copies
    mask = np.zeros_like(masks[0])
    mask[30, 30] = 255
    still = AugmentationSettings(flip=0, scale=0, shift=0, rotate=0, brightness=0, contrast=0, hue=0, saturation=0)
    augment = Augmentation(still, seed=0, mirrored=[0], tile=(16, 8))
    found = 0
    for epoch in range(60):
        image, cut = augment(images[0], mask, epoch=epoch, row=0)
        assert image.shape == (16, 8, 3)
        assert cut.shape == (16, 8, 1)
        found += cut.any()
    assert 25 <= found <= 50
    assert np.array_equal(augment(images[0], mask, epoch=3, row=0)[0], augment(images[0], mask, epoch=3, row=0)[0])
