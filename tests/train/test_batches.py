import numpy as np
import pytest

from stages.cli import InputError
from stages.geo import great_circle_km
from stages.train.batches import Batches, displaced


def test_an_epoch_has_each_photo_at_most_once_and_the_next_another_order():
    batches = Batches(23, batch_size=5, queue_size=0, seed=1)
    assert batches.steps_per_epoch == 4
    epochs = [np.concatenate([batches.batch(step) for step in range(4 * e, 4 * e + 4)]) for e in range(2)]
    assert all(len(np.unique(rows)) == 20 for rows in epochs)
    assert not np.array_equal(*epochs)


def test_a_step_is_the_same_whichever_steps_were_asked_before():
    one, other = (Batches(23, batch_size=5, queue_size=12, seed=1) for _ in range(2))
    in_order = [(one.batch(step), one.queue(step)) for step in range(12)]
    for step in reversed(range(12)):
        np.testing.assert_array_equal(other.batch(step), in_order[step][0])
        np.testing.assert_array_equal(other.queue(step), in_order[step][1])


def test_seeds_differ():
    assert not np.array_equal(*(Batches(23, batch_size=5, queue_size=0, seed=s).batch(0) for s in (1, 2)))


def test_the_queue_starts_empty_and_holds_the_photos_just_before():
    batches = Batches(40, batch_size=5, queue_size=12, seed=1)
    assert len(batches.queue(0)) == 0
    assert set(batches.queue(1)) == set(batches.batch(0))
    recent = np.concatenate([batches.batch(step) for step in range(3)])[-12:]
    assert set(batches.queue(3)) == set(recent)


def test_no_queue_is_always_empty():
    batches = Batches(40, batch_size=5, queue_size=0, seed=1)
    assert all(len(batches.queue(step)) == 0 for step in range(20))


def test_a_photo_is_never_its_own_negative_nor_twice_in_the_queue():
    batches = Batches(12, batch_size=5, queue_size=30, seed=1)  # a queue longer than the data
    for step in range(20):
        queue = batches.queue(step)
        assert len(np.unique(queue)) == len(queue)
        assert not set(queue) & set(batches.batch(step))


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(InputError, match="a batch of 512 is more than the 100 training photos; lower train.batch_size"):
        Batches(100, batch_size=512, queue_size=0, seed=1)


def test_noise_has_its_standard_deviation_on_each_axis_everywhere():
    for latitude_deg, longitude_deg in [(0.0, 180.0), (90.0, 0.0), (-60.0, -179.9999)]:
        place = np.full(20_000, latitude_deg), np.full(20_000, longitude_deg)
        error_km = great_circle_km(*place, *displaced(*place, np.full(20_000, 150.0), seed=1, step=7))
        # The root mean square of two axes; 20,000 draws hold it to 0.5 %.
        assert np.sqrt((error_km**2).mean()) == pytest.approx(0.15 * 2**0.5, rel=0.02)


def test_no_noise_leaves_places_where_they_are():
    place = np.array([10.0, -89.0]), np.array([179.5, 3.0])
    np.testing.assert_allclose(displaced(*place, np.zeros(2), seed=1, step=0), place, atol=1e-12)
