"""Things at a roadside, each drawn into a picture by a pinhole camera.

Every draw_* takes the pen, the generator of accidents, the camera, the place's look, where the thing stands (metres to
the right of the camera and ahead of it), tint (colour -> colour seen through the haze) and the weather.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL.ImageDraw import ImageDraw

from stages.world.look import Colour, Look, mix, shade

WOOD, STEEL, GLASS = (96, 72, 54), (146, 150, 152), (66, 82, 98)
CARS = [(190, 34, 34), (30, 60, 120), (230, 230, 230), (40, 40, 44), (160, 164, 168)]
STOREY_M = 3.1


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera that looks along the road."""

    focal_px: float
    centre_px: float  # column of the vanishing point
    horizon_px: float  # row of the horizon
    height_m: float

    def project(self, right_m: float, up_m: float, ahead_m: float) -> tuple[float, float]:
        """Pixel (x, y) of a point so far right of the camera, above the ground and ahead."""
        scale = self.focal_px / ahead_m
        return self.centre_px + scale * right_m, self.horizon_px - scale * (up_m - self.height_m)


def _quad(camera: Camera, x: tuple, y: tuple, z: tuple) -> list[tuple[float, float]]:
    """Upright rectangle from (x[0], z[0]) to (x[1], z[1]) on the ground, from height y[0] to y[1]."""
    return [camera.project(x[i], y[j], z[i]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]


def draw_building(
    pen: ImageDraw, rng: np.random.Generator, camera: Camera, look: Look, where: tuple, tint: Callable, weather
) -> None:
    """A house: the facade along the road, the gable or wall that faces the camera, windows and roof."""
    x, side, near, far = where
    near = max(near, 3.0)
    if far <= near + 1:
        return
    storeys = max(1, round(look.building_height_m / STOREY_M * rng.uniform(0.85, 1.15)))
    top = STOREY_M * storeys + 0.5
    wall = shade(mix(look.wall, (200, 200, 200), 0.08 * rng.random()), rng.uniform(0.94, 1.05))
    lit, shaded = (1.0, 0.86) if weather.sun_side == side else (0.9, 0.96)
    back = x + side * 10
    pen.polygon(_quad(camera, (x, back), (0, top), (near, near)), fill=tint(shade(wall, shaded)))
    pen.polygon(_quad(camera, (x, x), (0, top), (near, far)), fill=tint(shade(wall, lit)))
    if near < 60:
        _draw_windows(pen, camera, look, (x, near, far, storeys), tint)
        _draw_windows(pen, camera, look, (x, near, back, storeys), tint, across=True)
    if look.roof_height_m > 0.6:
        ridge, peak, eave = x + side * 5, top + look.roof_height_m, x - side * 0.5
        gable = [camera.project(x, top, near), camera.project(ridge, peak, near), camera.project(back, top, near)]
        pen.polygon(gable, fill=tint(shade(wall, shaded)))
        slope = [(eave, top - 0.2, near), (eave, top - 0.2, far), (ridge, peak, far), (ridge, peak, near)]
        pen.polygon([camera.project(*p) for p in slope], fill=tint(shade(look.roof, 0.8 + 0.2 * lit)))
    else:
        pen.polygon(_quad(camera, (x, x), (top, top + 0.8), (near, far)), fill=tint(shade(look.roof, lit)))
        pen.polygon(_quad(camera, (x, back), (top, top + 0.8), (near, near)), fill=tint(shade(look.roof, shaded)))


def draw_fence(
    pen: ImageDraw, rng: np.random.Generator, camera: Camera, look: Look, where: tuple, tint: Callable, weather
) -> None:
    """A garden wall along the road, of the stuff that roofs are made of here."""
    x, near, far = where
    near = max(near, 3.0)
    if far > near:
        pen.polygon(_quad(camera, (x, x), (0, 1.3), (near, far)), fill=tint(shade(look.roof, 0.9)))


def _draw_windows(pen: ImageDraw, camera: Camera, look: Look, where: tuple, tint: Callable, across: bool = False):
    """Windows of a facade along the road, or of the one across that faces the camera."""
    x, near, end, storeys = where
    glass = tint(GLASS if sum(look.wall) > 330 else mix(GLASS, (220, 226, 230), 0.6))
    start = x if across else near
    n = min(6, max(2, round(abs(end - start) / 3)))
    step = (end - start) / n
    for storey in range(min(storeys, 9)):
        y = (STOREY_M * storey + 1.1, STOREY_M * storey + 2.5)
        for column in range(n):
            a, b = start + step * (column + 0.28), start + step * (column + 0.72)
            corners = _quad(camera, (a, b), y, (near, near)) if across else _quad(camera, (x, x), y, (a, b))
            pen.polygon(corners, fill=glass)


def draw_tree(
    pen: ImageDraw, rng: np.random.Generator, camera: Camera, look: Look, where: tuple, tint: Callable, weather
) -> None:
    """A tree of the place's kind: a cone of needles, a round crown or a palm."""
    x, z = where
    z = max(z, 5.0)
    height = look.tree_height_m * rng.uniform(0.85, 1.15)
    leaf = shade(look.leaf, rng.uniform(0.92, 1.08))
    foot, scale = camera.project(x, 0, z), camera.focal_px / z
    trunk = max(0.18 * scale, 1)
    stem = 0.85 if look.crown == "palm" else 0.4
    pen.rectangle((foot[0] - trunk, foot[1] - stem * height * scale, foot[0] + trunk, foot[1]), fill=tint(WOOD))
    CROWNS[look.crown](pen, foot, height * scale, leaf, tint, weather.sun_side)


def _draw_cone(pen: ImageDraw, foot: tuple, height_px: float, leaf: Colour, tint: Callable, sun_side: int) -> None:
    x, y = foot
    for bottom, top, width in ((0.15, 0.6, 0.24), (0.35, 0.8, 0.18), (0.58, 1.0, 0.12)):
        left, right = (x - width * height_px, y - bottom * height_px), (x + width * height_px, y - bottom * height_px)
        tip = (x, y - top * height_px)
        pen.polygon([left, right, tip], fill=tint(leaf))
        pen.polygon([(x, left[1]), right if sun_side < 0 else left, tip], fill=tint(shade(leaf, 0.78)))


def _draw_round(pen: ImageDraw, foot: tuple, height_px: float, leaf: Colour, tint: Callable, sun_side: int) -> None:
    x, y = foot
    crowns = (
        (0.0, 0.62, 0.36, 0.8),
        (-0.14, 0.6, 0.24, 0.92),
        (0.15, 0.66, 0.22, 0.98),
        (sun_side * 0.1, 0.76, 0.2, 1.15),
    )
    for right, up, radius, light in crowns:
        cx, cy, r = x + right * height_px, y - up * height_px, radius * height_px
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=tint(shade(leaf, light)))


def _draw_palm(pen: ImageDraw, foot: tuple, height_px: float, leaf: Colour, tint: Callable, sun_side: int) -> None:
    x, y = foot[0], foot[1] - 0.85 * height_px
    for right, up in ((-0.42, -0.08), (-0.34, 0.12), (-0.14, 0.22), (0.14, 0.22), (0.34, 0.12), (0.42, -0.08)):
        tip = (x + right * height_px, y - up * height_px)
        bend = (x + 0.5 * right * height_px, y - (0.5 * up + 0.12) * height_px)
        light = 1.1 if right * sun_side > 0 else 0.85
        below = (bend[0], bend[1] + 0.09 * height_px)
        pen.polygon([(x, y), bend, tip, below], fill=tint(shade(leaf, light)))


CROWNS = {"cone": _draw_cone, "round": _draw_round, "palm": _draw_palm}


def draw_pole(
    pen: ImageDraw, rng: np.random.Generator, camera: Camera, look: Look, where: tuple, tint: Callable, weather
) -> None:
    """A pole of the place's kind; wooden ones carry wires to the next pole."""
    x, z = where
    foot, scale = camera.project(x, 0, z), camera.focal_px / z
    top = foot[1] - 8.5 * scale
    half = max(0.14 * scale, 0.8)
    towards_road = -1 if x > 0 else 1
    material = tint(WOOD if look.pole == "wood" else STEEL)
    pen.rectangle((foot[0] - half, top, foot[0] + half, foot[1]), fill=material)
    if look.pole == "wood":
        pen.rectangle((foot[0] - 1.2 * scale, top + 0.7 * scale, foot[0] + 1.2 * scale, top + scale), fill=material)
        for offset in (-1.1, 1.1):
            wire = [camera.project(x + offset, 7.7, max(z - 30, 2)), camera.project(x + offset, 7.7, z)]
            pen.line(wire, fill=tint((60, 60, 62)), width=1)
    elif look.pole == "lamp":
        end = foot[0] + towards_road * 2.4 * scale
        pen.line([(foot[0], top), (end, top - 0.4 * scale)], fill=material, width=max(1, int(0.25 * scale)))
        pen.rectangle(
            _ordered(end - 0.6 * scale, top - 0.6 * scale, end + 0.6 * scale, top - 0.2 * scale), fill=material
        )
    else:
        r = 0.5 * scale
        pen.ellipse((foot[0] - r, top - r, foot[0] + r, top + r), fill=tint((238, 234, 214)))


def _ordered(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def draw_sign(
    pen: ImageDraw, rng: np.random.Generator, camera: Camera, look: Look, where: tuple, tint: Callable, weather
) -> None:
    """A road sign of the place's shape and colour."""
    x, z = where
    foot, scale = camera.project(x, 0, z), camera.focal_px / z
    cx, cy, r = foot[0], foot[1] - 2.6 * scale, 0.6 * scale
    pen.line([foot, (cx, cy)], fill=tint(STEEL), width=max(1, int(0.1 * scale)))
    fill = tint(look.sign_colour)
    if look.sign == "disc":
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=fill)
    elif look.sign == "board":
        pen.rectangle((cx - 1.5 * r, cy - r, cx + 1.5 * r, cy + r), fill=fill)
    else:
        corners = [(cx, cy - r), (cx + r, cy), (cx, cy + r), (cx - r, cy)]
        pen.polygon(corners if look.sign == "diamond" else [corners[0], (cx + r, cy + r), (cx - r, cy + r)], fill=fill)


def draw_car(
    pen: ImageDraw, rng: np.random.Generator, camera: Camera, look: Look, where: tuple, tint: Callable, weather
) -> None:
    """An oncoming car of any colour."""
    x, z = where
    (cx, bottom), scale = camera.project(x, 0, z), camera.focal_px / z
    body = CARS[rng.integers(len(CARS))]
    pen.rectangle((cx - 0.9 * scale, bottom - 0.85 * scale, cx + 0.9 * scale, bottom - 0.15 * scale), fill=tint(body))
    pen.rectangle((cx - 0.7 * scale, bottom - 1.45 * scale, cx + 0.7 * scale, bottom - 0.85 * scale), fill=tint(GLASS))
    pen.rectangle((cx - 0.85 * scale, bottom - 0.2 * scale, cx + 0.85 * scale, bottom), fill=tint((26, 26, 28)))
