"""Splits, order and augmentation: functions of the place in the run, and of nothing else."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from archgrad.data import Images, load, retrain_data, search_data
from archgrad.data.augment import cutout, padded_crop
from archgrad.data.split import others, quotas, stratified
from archgrad.seeds import generator
from image_sets import folder, silent


@pytest.fixture(scope="module")
def digits():
    return load("digits", report=lambda line: None)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve colour images, as photos of 96 pixels."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in "ab":
        for index in range(6):
            (root / name).mkdir(exist_ok=True)
            small = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
            small.resize((140, 120), Image.Resampling.BICUBIC).save(root / name / f"{index}.png")
    return load(root, size=96, cache=root / ".cache", report=lambda line: None)


def same(first, second):
    first, second = list(first), list(second)
    return len(first) == len(second) and all(
        torch.equal(a, b) for x, y in zip(first, second) for a, b in zip(x, y)
    )


# --- choices ---


def test_quotas_by_largest_remainder():
    assert quotas([5, 3, 2], 5) == [3, 1, 1]
    assert quotas([1, 1, 1], 2) == [1, 1, 0]
    assert quotas([1000, 10], 101) == [100, 1]


def test_stratified_choice():
    labels = torch.arange(100) % 3
    chosen = stratified(labels, 50, 0, "split")
    assert torch.equal(chosen, chosen.unique()) and len(chosen) == 50
    assert torch.bincount(labels[chosen]).tolist() == quotas([34, 33, 33], 50)
    assert torch.equal(chosen, stratified(labels, 50, 0, "split"))
    assert not torch.equal(chosen, stratified(labels, 50, 1, "split"))
    assert torch.cat([chosen, others(chosen, 100)]).sort().values.equal(torch.arange(100))


def test_search_halves(digits):
    data = search_data(digits, seed=3)
    train, val = data.splits["train"], data.splits["val"]
    assert torch.cat([train.places, val.places]).sort().values.equal(torch.arange(1438))
    for one, other in zip(train.labels.bincount(), val.labels.bincount()):
        assert abs(one - other) <= 2
    assert len(data.splits["test"].places) == 359


def test_limit_takes_a_stratified_choice_first(digits):
    data = search_data(digits, limit=100)
    assert [len(data.splits[name].places) for name in ("train", "val")] == [100, 100]
    assert (data.splits["train"].labels.bincount() - 10).abs().max() <= 1
    assert len(retrain_data(digits, limit=200).splits["train"].places) == 200
    for wrong in (9, 720):
        with pytest.raises(
            ValueError, match=rf"the limit must lie between 10 .* and 719 .*, not {wrong}$"
        ):
            search_data(digits, limit=wrong)
    with pytest.raises(ValueError, match=r"the limit must lie between 20 .* and 1438 .*, not 1439"):
        retrain_data(digits, limit=1439)


def test_share_of_the_search_split(digits):
    assert len(search_data(digits, share=0.25).splits["train"].places) == round(1438 / 4)
    for wrong in (0, 1, -0.5):
        with pytest.raises(ValueError, match="share of the search split"):
            search_data(digits, share=wrong)


def test_split_does_not_depend_on_the_options_of_a_method(digits):
    first, second = search_data(digits, batch=64), search_data(digits, batch=7, cutout=4, workers=2)
    assert torch.equal(first.splits["train"].places, second.splits["train"].places)


# --- order ---


def test_epoch_is_a_permutation_without_the_ragged_batch(digits):
    data = search_data(digits, batch=64)
    assert data.steps("train") == 719 // 64
    index = torch.cat([batch.index for batch in data.batches("train")])
    assert len(index) == len(index.unique()) == 64 * data.steps("train")
    assert index.min() >= 0 and index.max() < data.count("train") == 719
    assert not torch.equal(index, torch.cat([batch.index for batch in data.batches("train", 1)]))


def test_batch_is_capped_at_the_split(digits):
    data = search_data(digits, batch=5000)
    (batch,) = data.batches("val")
    assert data.steps("val") == 1 and len(batch.labels) == 719


def test_labels_and_index_belong_to_the_images(digits):
    data = search_data(digits, augment=False)
    batch = next(data.batches("val", 2))
    places = data.splits["val"].places[batch.index]
    assert torch.equal(batch.labels, digits.train.labels[places])
    assert torch.equal(
        batch.images, digits.preprocess.crop_and_normalise(digits.train.pixels(places))
    )
    assert batch.images.shape == (64, 1, 8, 8) and batch.images.dtype == torch.float32


@pytest.mark.parametrize("start", [0, 1, 5, 11, 14])
def test_starting_later_is_the_tail(digits, start):
    data = search_data(digits)
    assert same(data.batches("train", 4, start), list(data.batches("train", 4))[start:])
    laps = list(data.batches("train", 4, steps=25))  # more than two laps through the split
    assert same(data.batches("train", 4, start, 25 - start), laps[start:])
    assert same(data.batches("train", 4, start, 1), laps[start : start + 1])


def test_two_passes_over_the_images_have_different_orders(digits):
    data = search_data(digits, augment=False)
    laps = torch.cat([batch.index for batch in data.batches("train", 0, steps=22)]).chunk(2)
    assert not torch.equal(*laps) and all(len(lap.unique()) == len(lap) for lap in laps)


def test_order_and_augmentation_are_functions_of_place(digits):
    first, second = search_data(digits), search_data(digits)
    torch.manual_seed(1)
    one = list(first.batches("train", 1))
    torch.manual_seed(2)
    assert same(one, second.batches("train", 1))
    for other in (
        first.batches("train", 2),
        first.batches("val", 1),
        search_data(digits, seed=1).batches("train", 1),
    ):
        assert not same(one, other)


def test_nothing_touches_the_global_generator(digits, photos):
    before = torch.random.get_rng_state()
    for data in (search_data(digits, workers=2), retrain_data(photos, batch=4, jitter=0.4)):
        list(data.batches("train"))
        list(data.evaluation("test"))
        next(data.batches("train"))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_change_no_bit(digits, photos, workers):
    for dataset in (digits, photos):
        few, many = (search_data(dataset, batch=3, workers=count) for count in (0, workers))
        assert same(few.batches("train", 1, 1), many.batches("train", 1, 1))
        assert same(few.evaluation("test", 2), many.evaluation("test", 2))


def test_mapped_and_resident_sets_give_the_same_bits(photos):
    memory = photos.train.store.clone()
    for index in range(3):
        data = search_data(photos, batch=2, augment=False)
        batch = next(data.batches("train", index))
        rows = photos.train.rows[data.splits["train"].places[batch.index]]
        assert torch.equal(batch.images, photos.preprocess.crop_and_normalise(memory[rows]))


# --- augmentation ---


def coded(batch, side):
    """Images (B, 1, side, side) whose every pixel has a value of its own, from 1 on."""
    return (
        torch.arange(1, side * side + 1, dtype=torch.uint8)
        .view(1, 1, side, side)
        .repeat(batch, 1, 1, 1)
    )


def test_padded_crop_is_a_shift_and_a_flip_of_each_sample():
    images = coded(400, 8)
    padded = torch.nn.functional.pad(images[0, 0], [1] * 4)
    views = [
        view
        for y in range(3)
        for x in range(3)
        for crop in [padded[y : y + 8, x : x + 8]]
        for view in (crop, crop.flip(1))
    ]
    cropped = padded_crop(images, 1, True, generator(0))
    seen = torch.tensor(
        [
            next(k for k, view in enumerate(views) if torch.equal(view, image[0]))
            for image in cropped
        ]
    )
    counts = torch.bincount(seen, minlength=18)
    assert counts.min() > 5 and counts.max() < 50  # 18 views, 22 each on average


def test_padded_crop_moves_all_channels_together():
    images = torch.randint(0, 256, (5, 1, 9, 12), dtype=torch.uint8).repeat(1, 3, 1, 1)
    cropped = padded_crop(images, 2, True, generator(1))
    assert cropped.shape == images.shape and torch.equal(cropped[:, 0], cropped[:, 2])


def test_no_padding_and_no_flip_is_the_identity():
    images = coded(3, 5)
    assert torch.equal(padded_crop(images, 0, False, generator(0)), images)


@pytest.mark.parametrize("side", [3, 4])
def test_cutout_is_a_clipped_square(side):
    images = torch.ones(300, 2, 10, 10)
    holes = cutout(images, side, generator(0)) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    areas = holes[:, 0].sum((1, 2))
    heights, widths = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(areas, heights * widths)
    for lengths in (heights, widths):
        assert lengths.max() == side and lengths.min() == min(
            side - side // 2, side // 2 + 1
        )  # clipped to what is left at a border
    assert images.all()  # the batch itself stays


def test_digits_are_not_mirrored_others_are(digits, photos):
    assert search_data(digits).splits["train"].augment.flip is False
    assert search_data(digits, flip=True).splits["train"].augment.flip is True
    assert search_data(photos).splits["train"].augment.flip is True


def test_cutout_default_is_half_the_side_in_retraining(digits, photos):
    assert search_data(digits).splits["train"].augment.cutout == 0
    assert retrain_data(digits).splits["train"].augment.cutout == 4
    assert retrain_data(photos).splits["train"].augment.cutout == 0
    with pytest.raises(
        ValueError, match="cutout must be at least 0 and less than the image side 8, not 16"
    ):
        retrain_data(digits, cutout=16)


def test_photos_are_cropped_at_random_to_their_size(photos):
    data = search_data(photos, batch=4, jitter=0.2)
    batch = next(data.batches("train"))
    assert batch.images.shape == (4, 3, 96, 96) and batch.images.isfinite().all()
    assert same([batch], [next(search_data(photos, batch=4, jitter=0.2).batches("train"))])
    assert not torch.equal(
        batch.images, photos.preprocess.crop_and_normalise(photos.train.pixels(batch.index))
    )
    plain = next(search_data(photos, batch=4).batches("train"))
    assert torch.equal(plain.index, batch.index) and not torch.equal(plain.images, batch.images)


def test_jitter_needs_colours(digits):
    with pytest.raises(ValueError, match="the images are grey"):
        search_data(digits, jitter=0.4)


# --- evaluation and the rest ---


def test_evaluation_sees_every_image_once(digits):
    batches = list(search_data(digits).evaluation("test", batch=100))
    assert [len(batch.labels) for batch in batches] == [100, 100, 100, 59]
    index = torch.cat([batch.index for batch in batches])
    assert index.sort().values.equal(torch.arange(359))
    assert torch.cat([batch.labels for batch in batches]).equal(digits.test.labels[index])
    assert torch.cat([batch.images for batch in batches]).equal(
        digits.preprocess.crop_and_normalise(digits.test.pixels(index))
    )


def test_no_image_is_evaluated_by_itself(digits):
    """BatchNorm needs two; where one image at a time is asked for, that is so."""
    data = search_data(digits)
    for batch, sizes in (
        (358, [359]),
        (179, [179, 180]),
        (178, [178, 178, 3]),
        (1, [1] * 359),
        (500, [359]),
    ):
        assert [len(one.labels) for one in data.evaluation("test", batch=batch)] == sizes
    assert [len(one.labels) for one in data.evaluation("test", limit=1)] == [1]


def test_a_batch_of_an_evaluation_has_all_classes(tmp_path):
    """A folder comes class by class; BatchNorm by the statistics of one class is another network."""
    data = search_data(load(str(folder(tmp_path, (50, 50))), report=silent))
    for split, limit in (("val", None), ("val", 24), ("train", 32)):
        for batch in data.evaluation(split, 16, limit):
            assert len(batch.labels) < 8 or len(batch.labels.unique()) == 2


def test_limited_evaluation_is_stratified_and_fixed(digits):
    data = search_data(digits)
    first, again = (
        torch.cat([batch.labels for batch in data.evaluation("val", limit=100)]) for _ in range(2)
    )
    assert torch.equal(first, again) and (first.bincount() - 10).abs().max() <= 1


def test_unknown_split(digits):
    with pytest.raises(ValueError, match="unknown split 'vall': did you mean 'val'"):
        search_data(digits).steps("vall")


def test_batch_and_workers_out_of_range(digits):
    with pytest.raises(ValueError, match="batch size must be at least 1, not 0"):
        search_data(digits, batch=0)
    with pytest.raises(ValueError, match="number of workers must be at least 0, not -1"):
        retrain_data(digits, workers=-1)


def test_summary_is_json(digits):
    data = search_data(digits)
    summary = json.loads(json.dumps(data.summary()))
    assert summary["splits"] == {"train": 719, "val": 719, "test": 359}
    assert (
        summary["preprocess"]["classes"] == list(data.classes)
        and summary["fingerprint"] == digits.fingerprint
    )
    assert (data.size, data.in_channels, data.mean, data.std) == (8, 1, digits.mean, digits.std)


def test_a_class_missing_in_one_half_is_noted(digits):
    labels = torch.tensor([0] * 10 + [1] * 10 + [2])
    train = Images(torch.zeros(21, 1, 8, 8, dtype=torch.uint8), torch.arange(21), labels)
    data = search_data(
        digits.__class__(**{**vars(digits), "train": train, "classes": ("a", "b", "c")})
    )
    assert (
        len(data.notes) == 1
        and "no image of c in the " in data.notes[0]
        and data.notes[0] in data.summary()["notes"]
    )
