"""The validation split: photos of one drive and of one place stay on the same side."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.geo import DEGREE, EARTH_RADIUS_KM

CELL_KM = 1.0
NO_DRIVE = 0  # the code of a photo without a sequence


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
    for index in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        if sizes[index] <= room:
            is_drawn[index] = True
            room -= sizes[index]
        if room == 0:
            break
    return is_drawn[group]
