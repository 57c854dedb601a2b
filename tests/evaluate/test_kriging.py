import gstools
import numpy as np
import pytest
from scipy.optimize import minimize

from stages.evaluate import kriging
from stages.geo import EARTH_RADIUS_KM, great_circle_km, unit_vectors


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def weights_at(latitude, longitude, place, model):
    return kriging.kriging_weights(vectors(*place)[None], vectors(latitude, longitude)[None], model)[0]


def vectors(latitude, longitude):
    return unit_vectors(np.asarray(latitude, float), np.asarray(longitude, float))


def apart_km(*places):
    """Great-circle distance of two places, as an array without dimensions."""
    return great_circle_km(*np.array(places, float)[:, None])[0]


def covariance(model, lag_km):
    return model.partial_sill * model.correlation_at(lag_km)


def scatter(n, seed=0):
    """Places around (-17, 180), on both sides of the antimeridian, within a few degrees."""
    rng = np.random.default_rng(seed)
    longitude = 180 + rng.normal(0, 2, n)
    return -17 + rng.normal(0, 2, n), np.where(longitude > 180, longitude - 360, longitude)


def test_one_neighbour_has_the_weight_of_the_closed_form(any_semivariogram):
    (weight,) = weights_at([0], [1], (0, 0), any_semivariogram)
    lag_km = apart_km(0.0, 0.0, 0.0, 1.0)
    assert weight == pytest.approx(covariance(any_semivariogram, lag_km) / any_semivariogram.sill, rel=1e-4)


def test_two_neighbours_share_the_weight_of_the_closed_form(any_semivariogram):
    weights = weights_at([0, 0], [1, -1], (0, 0), any_semivariogram)
    near, apart = (covariance(any_semivariogram, apart_km(0.0, 0.0, 0.0, lon)) for lon in (1.0, 2.0))
    np.testing.assert_allclose(weights, near / (any_semivariogram.sill + apart), rtol=1e-4)


def test_the_weights_have_the_least_expected_squared_error(any_semivariogram):
    latitude, longitude = scatter(6)
    place = (-16.5, 179.9)
    lag_km = great_circle_km(latitude[:, None], longitude[:, None], latitude, longitude)
    between = covariance(any_semivariogram, lag_km) + any_semivariogram.nugget * np.eye(6)
    to_place = covariance(any_semivariogram, great_circle_km(latitude, longitude, *place))
    found = minimize(
        lambda w: w @ between @ w - 2 * w @ to_place, np.zeros(6), jac=lambda w: 2 * (between @ w - to_place), tol=1e-12
    )
    np.testing.assert_allclose(weights_at(latitude, longitude, place, any_semivariogram), found.x, atol=1e-4)


def test_the_kriged_values_are_gstools(semivariogram):
    latitude, longitude = scatter(12)
    places, values = scatter(5, seed=1), np.random.default_rng(2).normal(size=12)
    model = semivariogram()
    length_km = model.range_km / np.log(20)  # the practical range is where 95 % are reached
    theirs = gstools.krige.Simple(
        gstools.Exponential(
            latlon=True, var=model.partial_sill, len_scale=length_km, nugget=model.nugget, geo_scale=EARTH_RADIUS_KM
        ),
        (latitude, longitude),
        values,
        mean=0,
    )
    expected, _ = theirs(places)
    ours = [weights_at(latitude, longitude, place, model) @ values for place in zip(*places, strict=True)]
    # Their lag is the chord, at these 10 degrees 0.1 % shorter than the great circle.
    np.testing.assert_allclose(ours, expected, rtol=1e-3)


def test_photos_of_one_place_share_its_weight_and_are_not_singular(any_semivariogram):
    weights = weights_at([5, 5, 5, 5], [179, 179, 179, 179], (5, -179.9), any_semivariogram)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights, weights[0], atol=1e-6)
    lag_km = apart_km(5.0, 179.0, 5.0, -179.9)
    total = 4 * covariance(any_semivariogram, lag_km) / (4 * any_semivariogram.partial_sill + any_semivariogram.nugget)
    assert weights.sum() == pytest.approx(total, rel=1e-4)


def test_the_antimeridian_makes_no_difference(semivariogram):
    latitude, longitude = scatter(8)
    here = weights_at(latitude, longitude, (-17, 180), semivariogram())
    turned = weights_at(latitude, longitude % 360 - 180, (-17, 0), semivariogram())
    np.testing.assert_allclose(here, turned, rtol=1e-9)


def similarities_by_hand(photos, latitude, longitude, training, model):
    """A loop over photos and places, from the definition."""
    of_latitude, of_longitude, features, mean = training
    nearest, kriged = np.empty((2, *latitude.shape))
    for i, photo in enumerate(photos):
        for j, place in enumerate(zip(latitude[i], longitude[i], strict=True)):
            lag_km = great_circle_km(of_latitude, of_longitude, *place)
            nearest[i, j] = (features[lag_km <= lag_km.min() + 1e-6] @ photo).max()
            rows = np.argsort(lag_km, kind="stable")[: kriging.NEIGHBOURS]
            weight = weights_at(of_latitude[rows], of_longitude[rows], place, model)
            expected = mean + weight @ (features[rows] - mean)
            kriged[i, j] = expected @ photo / np.linalg.norm(expected)
    return {"nearest": nearest, "kriged": kriged}


@pytest.mark.parametrize("row_chunk", [1, 50, 8192])
@pytest.mark.parametrize("n_training", [1, 5, 60])
def test_similarities_are_those_of_a_loop_whatever_the_chunks(any_semivariogram, monkeypatch, row_chunk, n_training):
    monkeypatch.setattr(kriging, "_ROW_CHUNK", row_chunk)
    rng = np.random.default_rng(3)
    latitude, longitude = scatter(n_training)
    features, photos = unit(rng.normal(size=(n_training, 8)) + 0.5), unit(rng.normal(size=(7, 8)))
    training = kriging.index(latitude, longitude, features.astype(np.float16))
    assert training.mean == pytest.approx(features.astype(np.float16).mean(0, dtype=np.float64), abs=1e-6)
    places = np.stack([*scatter(21, seed=4)]).reshape(2, 7, 3)
    places[:, :, 0] = [[latitude[0]], [longitude[0]]]  # a training photo's own place, asked for by every photo
    found = kriging.similarities(photos, *places, training, any_semivariogram)
    rounded = features.astype(np.float16).astype(np.float64)
    known = (latitude, longitude, rounded, training.mean.astype(np.float64))
    for name, values in similarities_by_hand(photos, *places, known, any_semivariogram).items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, atol=2e-5)


def test_of_several_photos_at_the_nearest_place_the_most_similar_counts(semivariogram):
    training = kriging.index(np.array([1.0, 1.0, 2.0]), np.array([5.0, 5.0, 5.0]), np.eye(3, dtype=np.float16))
    photos = np.eye(3, dtype=np.float32)
    one, two = np.full((3, 1), 1.1), np.full((3, 1), 5.0)
    assert kriging.similarities(photos, one, two, training, semivariogram())["nearest"].ravel().tolist() == [1, 1, 0]


def test_without_structure_every_place_is_expected_to_look_like_the_mean(semivariogram):
    features = unit(np.random.default_rng(5).normal(size=(9, 4)) + 1)
    training = kriging.index(*scatter(9), features)
    places = [angle.reshape(1, 6) for angle in scatter(6, seed=6)]
    kriged = kriging.similarities(features[:1], *places, training, semivariogram("nugget", 0.9, 0.0, None))["kriged"]
    expected = features[0] @ features.mean(0) / np.linalg.norm(features.mean(0))
    np.testing.assert_allclose(kriged, expected, rtol=1e-5)


def test_a_mean_of_zero_has_no_direction_and_is_like_nothing(semivariogram):
    training = kriging.index(np.zeros(2), np.array([0.0, 1.0]), np.array([[1, 0], [-1, 0]], np.float16))
    place = np.zeros((1, 1)), np.full((1, 1), 0.5)
    model = semivariogram("nugget", 0.9, 0.0, None)
    assert kriging.similarities(np.eye(2, dtype=np.float32)[:1], *place, training, model)["kriged"] == 0
