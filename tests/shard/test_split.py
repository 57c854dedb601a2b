import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.geo import displace, great_circle_km
from stages.shard.split import NO_DRIVE, cells, draw_by_density, draw_validation, groups


def flood(cell, drive):
    """Groups by painting neighbours until nothing changes."""
    label = list(range(len(cell)))
    changed = True
    while changed:
        changed = False
        for i in range(len(cell)):
            for j in range(len(cell)):
                linked = cell[i] == cell[j] or (drive[i] == drive[j] != NO_DRIVE)
                if linked and label[i] != label[j]:
                    label[i] = label[j] = min(label[i], label[j])
                    changed = True
    return label


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), max_size=14))
def test_groups_are_what_chains_of_cells_and_drives_connect(photos):
    cell, drive = np.array(photos, np.int64).reshape(-1, 2).T
    found, painted = groups(cell, drive), flood(cell.tolist(), drive.tolist())
    same = found[:, None] == found[None, :]
    np.testing.assert_array_equal(same, np.equal.outer(painted, painted))


def test_groups_depend_neither_on_the_order_of_rows_nor_on_the_codes_of_drives():
    rng = np.random.default_rng(0)
    cell, drive = rng.integers(0, 400, 500), rng.integers(0, 200, 500).astype(np.uint64)
    order = rng.permutation(500)
    recoded = np.where(drive == NO_DRIVE, drive, (drive * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1 << 63))
    expected = groups(cell, drive)
    np.testing.assert_array_equal(groups(cell[order], drive[order]), expected[order])
    codes = np.unique(recoded)
    assert len(codes) == len(np.unique(drive))
    np.testing.assert_array_equal(groups(cell, recoded), expected)


@pytest.mark.parametrize("latitude", [0.0, 35.8, -54.8, 71.2, 89.9])
def test_a_cell_is_about_a_kilometre_wide_and_high(latitude):
    rng = np.random.default_rng(1)
    east, north = rng.uniform(-10, 10, (2, 20_000))
    lat, lon = displace(np.full(20_000, latitude), np.full(20_000, 12.3), east, north)
    cell = cells(lat, lon)
    n_cells = len(np.unique(cell))
    assert 380 < n_cells < 530  # 400 km², and cells cut by the square's border
    first = np.unique(cell, return_index=True)[1]
    widest = max(great_circle_km(lat[cell == cell[i]], lon[cell == cell[i]], lat[i], lon[i]).max() for i in first[:50])
    assert widest < 1.75  # diagonal of a cell, which grows by rounding down the number of columns near a pole


def test_cells_close_at_the_antimeridian_and_at_the_poles():
    assert len(set(cells(np.zeros(3), np.array([180.0, -180.0, -179.999])))) == 1
    assert len(set(cells(np.full(3, 90.0), np.array([-180.0, 0.0, 123.0])))) == 1
    assert len(set(cells(np.full(3, -90.0), np.array([-180.0, 0.0, 123.0])))) <= 3


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.1, 0.5])
def test_validation_has_its_share_of_photos_and_takes_whole_groups(fraction):
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(800), rng.geometric(0.1, 800))
    is_validation = draw_validation(group, fraction, seed=3)
    assert is_validation.mean() == pytest.approx(fraction, abs=0.002)
    assert not set(group[is_validation]) & set(group[~is_validation])
    # Large groups are as likely as small ones: the photos' mean group size is the same on both sides.
    if fraction:
        sizes = np.bincount(group)[group]
        assert sizes[is_validation].mean() == pytest.approx(sizes.mean(), rel=0.25)


def test_a_group_larger_than_the_share_stays_in_training():
    group = np.array([0] * 95 + [1, 2, 3, 4, 5])
    is_validation = draw_validation(group, 0.04, seed=0)
    assert not is_validation[:95].any()
    assert is_validation.sum() == 4
    assert not draw_validation(np.zeros(10, int), 0.1, seed=0).any()
    assert draw_validation(np.array([], int), 0.1, seed=0).shape == (0,)


def test_the_seed_decides_which_groups_are_drawn():
    group = np.arange(1000)
    first, again, other = (draw_validation(group, 0.1, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first & other).sum() < 40


def test_by_density_a_photo_is_drawn_with_density_to_the_minus_three_quarters():
    # Two corners that span the grid, and 16 times as many photos in one cell as in each of sixteen others.
    latitude = np.concatenate([[0, 99], np.full(1600, 50.5), np.repeat(np.arange(16) + 20.5, 100)])
    longitude = np.concatenate([[0, 99], np.full(1600, 50.5), np.full(1600, 10.5)])
    drawn = np.mean([draw_by_density(latitude, longitude, 0.02, seed) for seed in range(200)], axis=0)
    dense, sparse = drawn[2:1602].mean(), drawn[1602:].mean()
    assert sparse / dense == pytest.approx(16**0.75, rel=0.1)  # some 12,800 draws
    assert drawn[:2].mean() > 0.5  # the only photo of its cell


def test_by_density_the_share_is_exact_and_the_seed_decides():
    rng = np.random.default_rng(0)
    latitude, longitude = rng.uniform(-60, 80, 1000), rng.uniform(-180, 180, 1000)
    first, again, other = (draw_by_density(latitude, longitude, 0.1, seed) for seed in (1, 1, 2))
    assert first.sum() == other.sum() == 100
    np.testing.assert_array_equal(first, again)
    assert (first & other).sum() < 40


def test_by_density_one_place_no_photo_and_no_share_are_ordinary():
    assert draw_by_density(np.full(10, 5.0), np.full(10, 6.0), 0.5, 0).sum() == 5
    assert draw_by_density(np.array([]), np.array([]), 0.5, 0).shape == (0,)
    assert not draw_by_density(np.arange(10.0), np.arange(10.0), 0.0, 0).any()
