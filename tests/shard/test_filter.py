import polars as pl
import pytest

from stages.params import Filter
from stages.shard.filter import NOT_WANTED, count_photos, set_aside

ALL = {"bounding_box": None, "countries": [], "fraction": 1.0, "max_photos": 0}


def table(places):
    """Rows of (latitude, longitude, country, archive), usable all."""
    schema = {"latitude": pl.Float64, "longitude": pl.Float64, "country": pl.String, "archive": pl.UInt16}
    rows = pl.DataFrame(places, schema, orient="row")
    return rows.with_columns(id=pl.int_range(pl.len()).cast(pl.String), reason=pl.lit(None, pl.String))


def kept(rows, n_before=0, **changes):
    """Numbers of the rows that are left."""
    reasons = set_aside(rows, Filter(**ALL | changes), n_before)["reason"]
    assert set(reasons) <= {None, NOT_WANTED}
    return [i for i, reason in enumerate(reasons) if reason is None]


def test_without_a_filter_everything_is_kept():
    rows = table([(1.0, 2.0, "KE", 0), (None, None, None, None)])
    assert set_aside(rows, Filter(**ALL), 0).equals(rows)


@pytest.mark.parametrize(
    ("box", "numbers"),
    [
        ([-10, -20, 10, 20], [0, 1, 2]),
        ([0, 0, 0.1, 0], [0]),
        ([-90, -180, 90, 180], [0, 1, 2, 3, 4, 5, 6]),
        ([-30, 170, 30, -170], [3, 4, 5]),  # across the antimeridian
    ],
)
def test_a_box_keeps_what_is_inside_and_on_its_border(box, numbers):
    places = [(0, 0), (10, 20), (-10, -20), (0, 180), (0, -180), (-29, 170), (89, 0)]
    assert kept(table([(*map(float, place), "KE", 0) for place in places]), bounding_box=box) == numbers


def test_countries_are_those_of_the_csv_and_an_unknown_one_is_not_asked_for():
    rows = table([(1.0, 2.0, country, 0) for country in ("KE", "FR", None, "NO", "ke")])
    assert kept(rows, countries=["NO", "KE"]) == [0, 3]


def test_a_fraction_is_that_of_the_photos_and_part_of_a_larger_one():
    rows = table([(1.0, 2.0, "KE", 0)] * 4000)
    tenth, fifth = (set(kept(rows, fraction=fraction)) for fraction in (0.1, 0.2))
    assert len(tenth) == pytest.approx(400, abs=76)  # four standard deviations of a binomial
    assert len(fifth) == pytest.approx(800, abs=101)
    assert tenth < fifth
    # printf 7 | sha256sum begins with 79 (of 256: 0.47), printf 2 with d4 (0.83).
    assert (7 in kept(rows[:10], fraction=0.48), 7 in kept(rows[:10], fraction=0.47)) == (True, False)
    assert (2 in kept(rows[:10], fraction=0.84), 2 in kept(rows[:10], fraction=0.82)) == (True, False)


def test_the_limit_counts_photos_over_all_batches_and_not_rows():
    rows = table([(1.0, 2.0, "KE", archive) for archive in (None, 0, None, 0, 1, None, 2)])
    assert kept(rows, max_photos=2) == [0, 1, 2, 3]
    assert kept(rows, n_before=1, max_photos=2) == [0, 1]
    assert kept(rows, n_before=2, max_photos=2) == []
    assert kept(rows, n_before=2, max_photos=99) == list(range(7))


def test_filters_are_all_obeyed_and_the_limit_counts_what_the_others_leave():
    rows = table([(float(i), 2.0, "KE" if i % 2 else "FR", 0) for i in range(10)])
    assert kept(rows, bounding_box=[3, 0, 8, 5], countries=["KE"], max_photos=2) == [3, 5]


def test_what_cannot_be_used_keeps_its_reason():
    rows = table([(None, None, "FR", 0), (1.0, 1.0, "KE", 0), (1.0, 1.0, "FR", None)])
    rows = rows.with_columns(reason=pl.Series(["coordinates missing", None, None]))
    marked = set_aside(rows, Filter(**ALL | {"countries": ["KE"]}), 0)
    assert marked["reason"].to_list() == ["coordinates missing", None, NOT_WANTED]
    assert (count_photos(marked, None), count_photos(marked, NOT_WANTED)) == (1, 0)
    assert count_photos(marked, "coordinates missing") == 1
