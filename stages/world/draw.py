"""Street views: what a camera on a road sees of a place, drawn with an accidental camera, weather and clutter."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from stages.world.look import Colour, Look, look_of, mix, shade
from stages.world.objects import Camera, draw_building, draw_car, draw_fence, draw_pole, draw_sign, draw_tree

SUPERSAMPLING = 2  # the scene is drawn so much larger and then shrunk: ImageDraw has no smooth edges
NEAR_M, FAR_M = 9.0, 160.0


@dataclass(frozen=True)
class Weather:
    """What is accidental in the sky and the light."""

    cloud_cover: float
    exposure: float
    warmth: float
    sun_side: int  # -1: the left faces are lit, 1: the right ones


def draw_photo(latents: np.ndarray, height_px: int, seed: list[int]) -> np.ndarray:
    """Photo of a place with latents (k,), taken by accident as seed says: (height_px, 4/3 height_px, 3) uint8."""
    rng = np.random.default_rng(seed)
    look = look_of(latents)
    height, width = height_px * SUPERSAMPLING, round(height_px * 4 / 3) * SUPERSAMPLING
    camera = Camera(
        focal_px=0.8 * width,
        centre_px=width * (0.5 + 0.02 * rng.standard_normal()),
        horizon_px=height * (0.5 + 0.006 * rng.standard_normal()),
        height_m=2.5,
    )
    weather = Weather(
        cloud_cover=rng.uniform(0.2, 0.45),
        exposure=rng.uniform(0.96, 1.03),
        warmth=rng.uniform(-0.015, 0.015),
        sun_side=1 if rng.random() < 0.5 else -1,
    )
    # Soft things need no supersampling.
    backdrop = _sky_and_ground(
        rng, look, weather, horizon=round(camera.horizon_px / SUPERSAMPLING), shape=(height_px, width // SUPERSAMPLING)
    )
    image = Image.fromarray(backdrop).resize((width, height), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    _draw_hills(pen, rng, look, camera, (height, width))
    _draw_road(pen, look, camera, rng)
    _draw_roadside(pen, rng, look, weather, camera)
    return _expose(image.reduce(SUPERSAMPLING), rng, weather)


def _blotches(rng: np.random.Generator, cells: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Smooth noise of about unit variance: so many cells, enlarged to shape (height, width). Returns float32."""
    coarse = Image.fromarray(rng.standard_normal(cells, dtype=np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC))


def _sky_and_ground(
    rng: np.random.Generator, look: Look, weather: Weather, *, horizon: int, shape: tuple[int, int]
) -> np.ndarray:
    """Sky with clouds above the horizon's row, bare ground below: (height, width, 3) uint8."""
    height, width = shape
    up = np.linspace(1, 0, horizon, dtype=np.float32)[:, None]
    noise = _blotches(rng, (6, 5), (horizon, width)) + 0.5 * _blotches(rng, (14, 10), (horizon, width))
    cloud = np.clip(0.9 * (noise + 2.2 * weather.cloud_cover - 1.2), 0, 0.5) * (0.3 + 0.7 * up)
    zenith, sky_edge = (np.array(c, np.float32) for c in (look.zenith, look.horizon))
    sky = sky_edge + (zenith - sky_edge) * (up**0.7)[..., None]
    sky = sky + (np.float32(240) - 0.06 * (255 - sky_edge) - sky) * cloud[..., None]

    down = np.linspace(0, 1, height - horizon, dtype=np.float32)[:, None]
    texture = 1 + 0.06 * _blotches(rng, (12, 7), (height - horizon, width))
    texture += 0.03 * rng.standard_normal((height - horizon, width), dtype=np.float32) * (0.2 + down)
    soil = np.array(look.soil, np.float32)
    far = np.array(mix(look.soil, look.horizon, 0.45), np.float32)
    ground = (far + (soil - far) * np.minimum(4 * down, 1)[..., None]) * texture[..., None]
    return np.clip(np.concatenate([np.broadcast_to(sky, (horizon, width, 3)), ground]), 0, 255).astype(np.uint8)


def _draw_hills(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, look: Look, camera: Camera, shape: tuple[int, int]
) -> None:
    height, width = shape
    cover = mix(look.soil, look.leaf, 0.5)
    for distance, size in ((0.5, 1.0), (0.2, 0.45)):
        # A ridge is a sum of waves, steeper where the land is rougher.
        angles = np.linspace(0, 2 * np.pi, 33)[:, None] * (0.7, 1.9, 4.3) + rng.uniform(0, 2 * np.pi, 3)
        ridge = (np.sin(angles) * (0.5, 0.28, 0.16)).sum(axis=1)
        tops = camera.horizon_px - height * look.relief * size * np.maximum(0.75 + 0.5 * ridge, 0.05)
        line = list(zip(np.linspace(0, width, 33).tolist(), tops.tolist(), strict=True))
        foot = camera.horizon_px + 1
        pen.polygon([(0, foot), *line, (width, foot)], fill=_rgb(mix(cover, look.horizon, distance)))


def _draw_road(pen: ImageDraw.ImageDraw, look: Look, camera: Camera, rng: np.random.Generator) -> None:
    half = look.road_half_width_m

    def strip(left_m: float, right_m: float, near_m: float, far_m: float, colour: Colour) -> None:
        corners = ((left_m, near_m), (left_m, far_m), (right_m, far_m), (right_m, near_m))
        pen.polygon([camera.project(x, 0, z) for x, z in corners], fill=_rgb(colour))

    lane = -half / 2  # the camera drives in its lane, so the road lies to its side
    shoulder = mix(look.road, look.soil, 0.6)
    strip(lane - half - 1.6, lane + half + 1.6, 1.5, 600, shoulder)
    strip(lane - half, lane + half, 1.5, 600, look.road)
    if look.edge_line:
        for x in (lane - half + 0.25, lane + half - 0.4):
            strip(x, x + 0.16, 1.5, 80, mix(look.edge_line, look.road, 0.2))
    if look.centre_line:
        start = rng.uniform(1.5, 7.5)
        dashes = [(start + 9 * i, start + 9 * i + 4) for i in range(-1, 9)] if look.is_dashed else [(1.5, 90)]
        for near, far in dashes:
            if far > 1.5:
                strip(lane - 0.1, lane + 0.12, max(near, 1.5), far, mix(look.centre_line, look.road, 0.15))


def _draw_roadside(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, look: Look, weather: Weather, camera: Camera
) -> None:
    """Houses, trees, poles, signs and cars, from far to near."""
    things = [thing for side in (-1, 1) for thing in _houses_and_trees(rng, look, side)] + _furniture(rng, look)
    for z, draw_thing, where in sorted(things, key=lambda thing: -thing[0]):
        haze = 1 - math.exp(-z / look.visibility_m)
        draw_thing(pen, rng, camera, look, where, lambda c, haze=haze: _rgb(mix(c, look.horizon, haze)), weather)


def _houses_and_trees(rng: np.random.Generator, look: Look, side: int) -> list[tuple]:
    """Depth, draw function and where it stands, of everything that grows or was built on one side of the road."""
    kerb = -look.road_half_width_m / 2 + side * (look.road_half_width_m + 1.6)
    things = []
    z = NEAR_M + rng.uniform(-5, 0)
    while z < FAR_M:
        length = rng.uniform(11, 15) * (1 + z / 120)
        things.append((z + length, draw_building, (kerb + side * (look.setback_m + rng.random()), side, z, z + length)))
        plot = length + look.house_gap_m * rng.uniform(0.7, 1.3)
        if look.setback_m > 3:
            things.append((z + plot, draw_fence, (kerb + side * 0.4 * look.setback_m, z, z + plot - 3)))
        z += plot
    z = NEAR_M + min(look.tree_gap_m, 20) * rng.random()
    while z < FAR_M:
        things.append((z, draw_tree, (kerb + side * rng.uniform(1.8, 3.2), z)))
        z += look.tree_gap_m * rng.uniform(0.85, 1.15) * (1 + z / 120)
    return things


def _furniture(rng: np.random.Generator, look: Look) -> list[tuple]:
    """Depth, draw function and where it stands, of poles, a sign and perhaps a car."""
    lane, edge = -look.road_half_width_m / 2, look.road_half_width_m + 1.6
    pole_side = 1 if look.pole == "wood" else -1
    start = rng.uniform(9, 24)
    things = [(start + 30 * i, draw_pole, (lane + pole_side * edge, start + 30 * i)) for i in range(4)]
    z = rng.uniform(11, 18)
    things.append((z, draw_sign, (lane + edge + 0.4, z)))
    if rng.random() < 0.3:
        z = rng.uniform(14, 60)
        things.append((z, draw_car, (lane - look.road_half_width_m / 2, z)))
    return things


def _rgb(colour: Colour) -> tuple[int, int, int]:
    return tuple(int(c) for c in colour)


def _expose(image: Image.Image, rng: np.random.Generator, weather: Weather) -> np.ndarray:
    gain = np.array(shade((1 + weather.warmth, 1, 1 - weather.warmth), weather.exposure), np.float32)
    pixels = np.asarray(image, np.float32) * gain
    pixels += 2.5 * rng.standard_normal(pixels.shape[:2], dtype=np.float32)[..., None]
    return np.clip(pixels, 0, 255).astype(np.uint8)
