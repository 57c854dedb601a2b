"""How a place looks, from its appearance latents: colours, sizes and styles that draw.py draws."""

from dataclasses import dataclass

import numpy as np

from stages.world.truth import LATENTS

Colour = tuple[float, float, float]  # red, green, blue in 0-255

# Colours along a latent from 0 to 1. Neighbours in a ramp are alike and its ends are far apart, so that a small change
# of the latent is a small change of the picture.
RAMPS = {
    "leaf": [(24, 62, 58), (26, 82, 40), (74, 122, 38), (128, 134, 52), (176, 136, 52)],
    "soil": [(72, 112, 44), (112, 134, 62), (160, 140, 84), (178, 100, 58), (222, 196, 148), (188, 184, 180)],
    "wall": [(134, 54, 44), (196, 112, 62), (226, 192, 122), (238, 234, 222), (158, 184, 206), (112, 116, 122)],
    "roof": [(48, 52, 66), (94, 66, 54), (186, 74, 44), (128, 144, 118), (214, 214, 216)],
    "road": [(74, 74, 82), (98, 98, 102), (120, 116, 112), (142, 124, 104)],
    "zenith": [(36, 92, 178), (74, 136, 206), (126, 172, 206), (168, 184, 190), (186, 180, 162)],
    "horizon": [(186, 212, 236), (196, 218, 232), (216, 224, 226), (222, 220, 212), (222, 204, 170)],
}
WHITE, YELLOW = (236, 236, 230), (232, 184, 44)


@dataclass(frozen=True)
class Look:
    """What draw.py needs to know of a place; lengths in metres, shares and amounts in [0, 1]."""

    leaf: Colour
    crown: str  # cone, round or palm
    tree_gap_m: float  # between the trees along the road
    tree_height_m: float
    soil: Colour
    house_gap_m: float
    building_height_m: float
    setback_m: float  # of the houses from the road's edge
    wall: Colour
    roof: Colour
    roof_height_m: float  # 0 is a flat roof
    road: Colour
    road_half_width_m: float
    centre_line: Colour | None
    is_dashed: bool
    edge_line: Colour | None
    pole: str  # wood, lamp or mast
    sign: str  # disc, diamond, triangle or board
    sign_colour: Colour
    relief: float  # height of the hills, as a share of the picture's
    zenith: Colour
    horizon: Colour
    visibility_m: float


def ramp(name: str, u: float) -> Colour:
    """Colour of a ramp at u in [0, 1]; beyond, its end."""
    anchors = RAMPS[name]
    place = min(max(u, 0.0), 1.0) * (len(anchors) - 1)
    index = min(int(place), len(anchors) - 2)
    return mix(anchors[index], anchors[index + 1], place - index)


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """Colour with a share of another one in it."""
    return tuple(a + (b - a) * share for a, b in zip(colour, other, strict=True))


def shade(colour: Colour, factor: float) -> Colour:
    """Colour, lighter or darker by a factor."""
    return tuple(min(a * factor, 255.0) for a in colour)


def _choose(options: list, u: float):
    return options[min(int(u * len(options)), len(options) - 1)]


def look_of(latents: np.ndarray) -> Look:
    """Look of a place with the latents (k,), in the order of truth.LATENTS."""
    u = dict(zip(LATENTS, latents.tolist(), strict=True))
    kind, density, height = u["vegetation_kind"], u["vegetation_density"], u["building_height"]
    surface, style, haze = u["road_surface"], u["pole_style"], u["sky_haze"]
    return Look(
        leaf=ramp("leaf", kind),
        crown=_choose(["cone", "round", "round", "palm"], kind),
        tree_gap_m=7 + 90 * (1 - density) ** 2.5,
        tree_height_m=3.5 + 7 * (1 - abs(2 * kind - 0.7)) ** 2 + 2 * density,
        soil=ramp("soil", u["ground_colour"]),
        house_gap_m=45 * (1 - height) ** 2,
        building_height_m=3.2 + 30 * height**2.5,
        setback_m=9 - 7 * height,
        wall=ramp("wall", u["building_colour"]),
        roof=ramp("roof", u["roof_style"]),
        roof_height_m=max(0.0, 5 * (1 - 1.35 * u["roof_style"])) if height < 0.85 else 0.0,
        road=ramp("road", surface),
        road_half_width_m=3 + 2.5 * height,
        centre_line=_choose([YELLOW, WHITE, WHITE, None], surface),
        is_dashed=surface > 0.4,
        edge_line=_choose([WHITE, None, WHITE, None], surface),
        pole=_choose(["wood", "lamp", "mast"], style),
        sign=_choose(["disc", "diamond", "triangle", "board"], style),
        sign_colour=_choose([(204, 40, 40), (236, 186, 30), (230, 230, 226), (30, 92, 176), (26, 122, 74)], style),
        relief=0.01 + 0.42 * u["terrain_relief"] ** 1.2,
        zenith=ramp("zenith", haze),
        horizon=ramp("horizon", haze),
        visibility_m=2000 * 0.06**haze,
    )
