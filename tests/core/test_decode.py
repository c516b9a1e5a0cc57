import numpy as np
import pytest
import simplejpeg

from learning.core.decode import BadImage, decode_image, reduce_image, stack_images


def test_a_whole_factor_gives_the_exact_mean_of_each_block():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2, 0] = [[10, 20], [30, 40]]
    image[2:, 2:, 2] = [[1, 2], [2, 2]]
    reduced = reduce_image(image, 2)
    assert reduced.shape == (3, 2, 2)
    assert reduced[0, 0, 0] == 25
    assert reduced[2, 1, 1] == 2  # 7 / 4 rounds to 2
    assert reduced[1].sum() == 0


@pytest.mark.parametrize(("size", "px"), [(128, 64), (96, 32), (64, 64), (512, 16), (100, 64)])
def test_a_constant_image_keeps_its_value(size, px):
    for value in (0, 1, 127, 254, 255):
        image = np.full((size, size, 3), value, np.uint8)
        assert (reduce_image(image, px) == value).all()


@pytest.mark.parametrize(("size", "px"), [(24, 16), (25, 16), (17, 16)])
def test_a_broken_factor_weighs_pixels_by_the_area_they_share(size, px):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    fine = np.repeat(np.repeat(image, px, 0), px, 1).astype(np.float64)  # (size px, size px, 3)
    expected = fine.reshape(px, size, px, size, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(reduce_image(image, px) - expected).max() <= 0.5 + 1e-3


def test_a_rectangle_is_cut_to_its_central_square():
    image = np.zeros((120, 160, 3), np.uint8)
    image[:, 20:140] = 200
    assert (reduce_image(image, 60) == 200).all()


def test_a_recorded_image_and_the_raw_one_differ_by_jpeg_only():
    rng = np.random.default_rng(1)
    smooth = np.linspace(0, 255, 128)[:, None, None] * np.ones((128, 128, 3))
    raw = (smooth * 0.8 + rng.uniform(0, 10, (128, 128, 1))).astype(np.uint8)
    jpeg = simplejpeg.encode_jpeg(raw, quality=90)
    seen = decode_image(jpeg, 64).astype(int)
    sensed = stack_images({"wrist": raw}, ("wrist",), 64)[0].astype(int)
    assert np.abs(seen - sensed).mean() < 3
    decoded = simplejpeg.decode_jpeg(jpeg, "RGB")
    assert (seen == reduce_image(decoded, 64)).all()


def test_cameras_are_stacked_in_the_order_of_the_policy():
    images = {name: np.full((32, 32, 3), v, np.uint8) for name, v in (("a", 1), ("b", 2))}
    stacked = stack_images(images, ("b", "a"), 32)
    assert stacked.shape == (2, 3, 32, 32)
    assert stacked[:, 0, 0, 0].tolist() == [2, 1]


def test_rubbish_is_refused_by_name():
    with pytest.raises(BadImage, match="not a JPEG"):
        decode_image(b"rubbish", 64)
    with pytest.raises(BadImage, match="smaller"):
        reduce_image(np.zeros((32, 32, 3), np.uint8), 64)
    with pytest.raises(BadImage, match="need uint8"):
        reduce_image(np.zeros((64, 64, 3), np.float32), 64)
    with pytest.raises(BadImage, match="no image of wrist"):
        stack_images({}, ("wrist",), 64)
