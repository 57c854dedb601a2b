"""The validation split: photos of one drive and of one place stay on the same side, or OSV5M's own protocol."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.geo import DEGREE, EARTH_RADIUS_KM

CELL_KM = 1.0
NO_DRIVE = 0  # the code of a photo without a sequence
DENSITY_BINS, DENSITY_POWER = 99, -0.75  # OSV5M's grid of latitudes by longitudes, and the weight of a photo in it


def cells(latitude_deg: np.ndarray, longitude_deg: np.ndarray) -> np.ndarray:
    """Number of the cell, about 1 km by 1 km, that a place lies in. Both angles (n,). Returns (n,) int64.

    Cells are cut from bands of latitude 1 km high; a band has as many as fit around it, one at a pole.
    """
    band_deg = CELL_KM / EARTH_RADIUS_KM / DEGREE
    band = np.floor((latitude_deg + 90) / band_deg).astype(np.int64)
    middle_rad = np.clip((band + 0.5) * band_deg - 90, -90, 90) * DEGREE
    n_columns = np.maximum(2 * np.pi * EARTH_RADIUS_KM * np.cos(middle_rad) / CELL_KM, 1).astype(np.int64)
    column = np.floor((longitude_deg + 180) / 360 * n_columns).astype(np.int64) % n_columns  # 180 is -180
    return band * 10**5 + column  # the equator has 40,030 columns


def groups(cell: np.ndarray, drive: np.ndarray) -> np.ndarray:
    """Number, from 0, of the group of each photo: the photos that a chain of shared cells and drives connects.

    cell, drive: (n,) integers; drive NO_DRIVE connects nothing.  Returns (n,) int32, which depends neither on the rows'
    order nor on the drives' codes: the connected components of the graph that has cells and drives as its nodes and
    photos as its edges, numbered by their smallest cell.
    """
    _, cell = np.unique(cell, return_inverse=True)
    drive_codes, drive = np.unique(drive, return_inverse=True)
    n_cells, n_nodes = cell.max(initial=-1) + 1, cell.max(initial=-1) + 1 + len(drive_codes)
    is_edge = drive_codes[drive] != NO_DRIVE
    edges = (cell[is_edge].astype(np.int32), (n_cells + drive[is_edge]).astype(np.int32))
    graph = coo_array((np.ones(len(edges[0]), np.uint8), edges), shape=(n_nodes, n_nodes))
    return connected_components(graph, directed=False)[1][cell]


def draw_validation(group: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Whether a photo is for validation: whole groups in random order, as long as they fit into the fraction.

    group: (n,) integers from 0.  Returns (n,) bool, of which at most fraction · n are true.
    """
    sizes = np.bincount(group)
    room = round(fraction * len(group))
    is_drawn = np.zeros(len(sizes), bool)
    for index in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[index] <= room:
            is_drawn[index] = True
            room -= sizes[index]
        if room == 0:
            break
    return is_drawn[group]


def draw_by_density(latitude_deg: np.ndarray, longitude_deg: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Whether a photo is for validation: single photos, drawn with the weight density^-0.75.

    Both angles (n,).  Returns (n,) bool, of which fraction · n are true.  Density is the number of photos in a cell of
    99 by 99 over the range of the angles.  Source: OSV5M (Astruc et al. 2024), data/data.py, up to its random numbers.
    """
    n = len(latitude_deg)
    if not (n_drawn := round(fraction * n)):
        return np.zeros(n, bool)
    cell = _bins(latitude_deg) * DENSITY_BINS + _bins(longitude_deg)
    weight = np.bincount(cell)[cell] ** DENSITY_POWER
    # Drawing one by one without replacement is the same as taking the first arrivals of exponential clocks.
    arrival = np.random.default_rng(seed).exponential(size=n) / weight
    is_drawn = np.zeros(n, bool)
    is_drawn[np.argpartition(arrival, n_drawn)[:n_drawn]] = True
    return is_drawn


def _bins(angle_deg: np.ndarray) -> np.ndarray:
    low, high = angle_deg.min(), angle_deg.max()
    return ((angle_deg - low) / max(high - low, 1e-9) * DENSITY_BINS).astype(np.int64).clip(max=DENSITY_BINS - 1)
