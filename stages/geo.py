"""The sphere: unit vectors, great-circle distance, displacement and two map projections.

Every function takes NumPy arrays or torch tensors (of any float dtype, on any device) and gives back the same kind.
"""

from array_api_compat import array_namespace

EARTH_RADIUS_KM = 6371.0  # mean radius; OSV5M's protocol uses this value, so binning, training and scores all do

DEGREE = 3.14159265358979323846 / 180  # radians

# Šavrič, Patterson & Jenny (2019), "The Equal Earth map projection", table 1.
_A1, _A2, _A3, _A4 = 1.340264, -0.081106, 0.000893, 0.003796


def unit_vectors(latitude_deg, longitude_deg):
    """Points on the unit sphere, x to (0, 0) and z to the north pole. Both angles: (...). Returns (..., 3)."""
    xp = array_namespace(latitude_deg, longitude_deg)
    phi, lam = latitude_deg * DEGREE, longitude_deg * DEGREE
    return xp.stack([xp.cos(phi) * xp.cos(lam), xp.cos(phi) * xp.sin(lam), xp.sin(phi)], axis=-1)


def coordinates(vectors):
    """Latitude and longitude in degrees of (..., 3) vectors of any length. Returns two (...) arrays."""
    xp = array_namespace(vectors)
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    # atan2 and not asin: asin loses half of the digits near the poles.
    return xp.atan2(z, xp.sqrt(x * x + y * y)) / DEGREE, xp.atan2(y, x) / DEGREE


def great_circle_km(latitude_deg, longitude_deg, other_latitude_deg, other_longitude_deg):
    """Great-circle distance in km, by the haversine formula. All four broadcast to (...). Returns (...)."""
    xp = array_namespace(latitude_deg, longitude_deg, other_latitude_deg, other_longitude_deg)
    phi, other_phi = latitude_deg * DEGREE, other_latitude_deg * DEGREE
    half_dphi, half_dlam = (other_phi - phi) / 2, (other_longitude_deg - longitude_deg) * DEGREE / 2
    haversine = xp.sin(half_dphi) ** 2 + xp.cos(phi) * xp.cos(other_phi) * xp.sin(half_dlam) ** 2
    # clip: rounding can push the haversine past 1 at antipodes.
    return 2 * EARTH_RADIUS_KM * xp.asin(xp.sqrt(xp.clip(haversine, 0, 1)))


def chord_km(squared_chord):
    """Great-circle distance in km of points of the unit sphere by their squared straight distance, (...) in [0, 4]."""
    xp = array_namespace(squared_chord)
    return 2 * EARTH_RADIUS_KM * xp.asin(xp.clip(xp.sqrt(squared_chord) / 2, 0, 1))


def squared_chord(lag_km):
    """Squared straight distance on the unit sphere of points lag_km apart along the great circle: 4 sin²(h / 2R)."""
    xp = array_namespace(lag_km)
    return 4 * xp.sin(lag_km / (2 * EARTH_RADIUS_KM)) ** 2


def displace(latitude_deg, longitude_deg, east_km, north_km):
    """Coordinates in degrees after a walk of (east_km, north_km) along a great circle.

    All four (...). Returns two (...) arrays, right at the poles and over the antimeridian too.
    """
    xp = array_namespace(latitude_deg, longitude_deg, east_km, north_km)
    phi, lam = latitude_deg * DEGREE, longitude_deg * DEGREE
    up = unit_vectors(latitude_deg, longitude_deg)
    east = xp.stack([-xp.sin(lam), xp.cos(lam), xp.zeros_like(lam)], axis=-1)
    north = xp.stack([-xp.sin(phi) * xp.cos(lam), -xp.sin(phi) * xp.sin(lam), xp.cos(phi)], axis=-1)
    length = xp.sqrt(east_km**2 + north_km**2)
    scale = xp.where(length > 0, length, 1.0)  # a walk of length 0 has no direction
    ahead = (east_km / scale)[..., None] * east + (north_km / scale)[..., None] * north
    angle = (length / EARTH_RADIUS_KM)[..., None]
    return coordinates(xp.cos(angle) * up + xp.sin(angle) * ahead)


def equal_earth(latitude_deg, longitude_deg):
    """Equal Earth map coordinates (x east, y north) on a sphere of radius 1; x within ±2.71, y within ±1.32.

    Source: Šavrič, Patterson & Jenny (2019), eqs. 1-2.
    """
    xp = array_namespace(latitude_deg, longitude_deg)
    theta = xp.asin(3**0.5 / 2 * xp.sin(latitude_deg * DEGREE))
    t2 = theta * theta
    t6 = t2 * t2 * t2
    slope = _A1 + 3 * _A2 * t2 + t6 * (7 * _A3 + 9 * _A4 * t2)
    x = 2 * 3**0.5 / 3 * longitude_deg * DEGREE * xp.cos(theta) / slope
    y = theta * (_A1 + _A2 * t2 + t6 * (_A3 + _A4 * t2))
    return x, y


def azimuthal_equidistant_km(latitude_deg, longitude_deg, center_latitude_deg, center_longitude_deg):
    """Map coordinates in km (x east, y north) that keep distance and direction from a center. All four (...).

    Returns two (...) arrays; the center's antipode, which lies in every direction, is put in one of them.
    Source: Snyder (1987), "Map projections: a working manual", eqs. 5-3, 22-4, 22-5 and 25-2.
    """
    xp = array_namespace(latitude_deg, longitude_deg, center_latitude_deg, center_longitude_deg)
    phi, phi_1 = latitude_deg * DEGREE, center_latitude_deg * DEGREE
    dlam = (longitude_deg - center_longitude_deg) * DEGREE
    x = xp.cos(phi) * xp.sin(dlam)
    y = xp.cos(phi_1) * xp.sin(phi) - xp.sin(phi_1) * xp.cos(phi) * xp.cos(dlam)
    cos_c = xp.sin(phi_1) * xp.sin(phi) + xp.cos(phi_1) * xp.cos(phi) * xp.cos(dlam)
    sin_c = xp.sqrt(x * x + y * y)  # for c itself, because an arc cosine has half of the digits near the center
    k = xp.where(sin_c > 0, xp.atan2(sin_c, cos_c) / xp.where(sin_c > 0, sin_c, 1.0), 1.0)
    return EARTH_RADIUS_KM * k * x, EARTH_RADIUS_KM * k * y
