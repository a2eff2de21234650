import numpy as np
import pytest
import torch

from pipeline.learning.inference import make_engine, predict_batches


class LeftIsBrighter(torch.nn.Module):
    """Logits that depend on the column: any error in undoing the flip shows."""

    def forward(self, images):
        columns = torch.linspace(2, -2, images.shape[-1])
        return columns + images.float().mean(1) / 255


def predict(images, rows, *, flip, engine="torch", batch_size=4):
    rows = np.asarray(rows)
    chosen = make_engine(LeftIsBrighter(), images, rows, count=len(rows), flip=flip, engine=engine)
    return np.concatenate(list(predict_batches(chosen, images, rows, batch_size=batch_size, flip=flip)))


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


def test_the_flipped_view_is_flipped_back(images):
    symmetric = np.concatenate([images, images[:, :, ::-1]], axis=2)
    maps = predict(symmetric, range(7), batch_size=3, flip=True)
    assert np.array_equal(maps, maps[:, :, ::-1])
