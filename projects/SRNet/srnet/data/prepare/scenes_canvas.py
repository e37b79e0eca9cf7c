"""A canvas before a pinhole camera: polygons at places in metres, painted with their truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

SAMPLES = 3  # a pixel is the average of SAMPLES x SAMPLES points
GROUND_Z = 1.0  # the nearest ground that is drawn, metres


@dataclass
class Scene:
    """A picture and its truth.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        segment_ids: (H, W) int32; 0 is void, i is segment i.
        segments: the class of segment i at i - 1; one segment a thing and one a stuff class.
    """

    image: np.ndarray
    segment_ids: np.ndarray
    segments: list[str]


@dataclass
class Lighting:
    """How a scene is lit; colours are RGB, 1 is white.

    Attributes:
        sky: the sky overhead.
        haze: the sky at the horizon, towards which distant things fade.
        light: what falls on everything.
        lamps: how strongly windows and lamps shine, 0 to 1.
        visibility: metres over which the contrast falls to 1 / e.
    """

    sky: np.ndarray
    haze: np.ndarray
    light: np.ndarray
    lamps: float
    visibility: float


def disc(
    at: ArrayLike = (0.0, 0.0), radius: float = 1.0, corners: int = 20, turn: float = 0.0
) -> np.ndarray:
    """The outline (corners, 2) of a disc or, with few corners, of a regular polygon."""
    angle = turn + np.arange(corners) * (2 * np.pi / corners)
    return radius * np.column_stack([np.cos(angle), np.sin(angle)]) + np.asarray(at)


def box(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    """The outline (4, 2) of a rectangle."""
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)


class Canvas:
    """Paints polygons and remembers which segment each point shows.

    Places are (x, y, z) in metres: right of the camera's axis, above the ground, ahead.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
        camera: its height above the ground, metres.
        horizon: its row, a share of the height.
        center: the column of the camera's axis, a share of the width.
        lighting: how the scene is lit.
        stuff: the stuff classes, segments 1 and on.
        rng: draws the textures.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        camera: float,
        horizon: float,
        center: float,
        lighting: Lighting,
        stuff: Sequence[str],
        rng: np.random.Generator,
    ):
        self.height, self.width, self.rng, self.lighting = height, width, rng, lighting
        self.rows, self.columns = height * SAMPLES, width * SAMPLES
        self.focal, self.camera = 1.25 * self.rows, camera
        self.horizon, self.center = self.rows * horizon, self.columns * center
        self.segments = list(stuff)
        # Reflectance, the share of its colour a point gives off by itself, shade, segment.
        self.colour = np.zeros((self.rows, self.columns, 3), np.float32)
        self.glow = np.zeros((self.rows, self.columns), np.float32)
        self.shade = np.ones((self.rows, self.columns), np.float32)
        self.ids = np.zeros((self.rows, self.columns), np.int32)

    def stuff(self, name: str) -> int:
        """The segment of a stuff class."""
        return self.segments.index(name) + 1

    def new_thing(self, name: str) -> int:
        """Begin a segment of a thing class."""
        self.segments.append(name)
        return len(self.segments)

    def project(self, places: ArrayLike) -> np.ndarray:
        """Map places (n, 3) to points (n, 2) of the canvas, column and row."""
        x, y, z = np.asarray(places, np.float64).T
        points = np.empty((len(x), 2))
        points[:, 0] = self.center + self.focal * x / z
        points[:, 1] = self.horizon + self.focal * (self.camera - y) / z
        return points

    def paint(
        self,
        points: np.ndarray,
        colour: ArrayLike,
        segment: int,
        depth: float = 0.0,
        glow: float = 0.0,
    ) -> None:
        """Fill a polygon of points (n, 2) that stands `depth` metres away."""
        haze = 1 - np.exp(-depth / self.lighting.visibility)
        # The haze is lit already; finish() lights everything.
        faded = self.lighting.haze / np.maximum(self.lighting.light, 0.3)
        hazy = tuple((np.asarray(colour) * (1 - haze) + faded * haze).tolist())
        fixed = [np.clip(points * 16, -6e5, 6e5).round().astype(np.int32)]
        cv2.fillPoly(self.colour, fixed, hazy, shift=4)
        cv2.fillPoly(self.glow, fixed, (glow,), shift=4)
        cv2.fillPoly(self.shade, fixed, (1.0,), shift=4)
        cv2.fillPoly(self.ids, fixed, (segment,), shift=4)

    def surface(
        self,
        places: ArrayLike,
        colour: ArrayLike,
        segment: int,
        depth: float,
        glow: float = 0.0,
    ) -> None:
        """Fill a polygon of places (n, 3)."""
        self.paint(self.project(places), colour, segment, depth, glow)

    def upright(
        self,
        x: float,
        z: float,
        outline: ArrayLike,
        colour: ArrayLike,
        segment: int,
        glow: float = 0.0,
    ) -> None:
        """Fill an outline [(x, y)] in metres that stands across the street at (x, z)."""
        corners = np.asarray(outline, np.float64)
        places = np.column_stack([corners[:, 0] + x, corners[:, 1], np.full(len(corners), z)])
        self.surface(places, colour, segment, z, glow)

    def ground(self, half_width: float, colour: ArrayLike, segment: int) -> None:
        """Fill the ground up to `half_width` on both sides, in strips that fade into the haze."""
        for far in (200, 90, 50, 30, 18, 11, 6):
            strip = box(-half_width, GROUND_Z, half_width, far)
            places = np.column_stack([strip[:, 0], np.zeros(4), strip[:, 1]])
            self.surface(places, colour, segment, 0.7 * far)

    def shadow(self, x: float, z: float, width: float, length: float) -> None:
        """Darken the ground around (x, z)."""
        ring = disc() * np.array((width / 2, length / 2)) + (x, z)
        points = self.project(np.column_stack([ring[:, 0], np.zeros(len(ring)), ring[:, 1]]))
        cv2.fillPoly(self.shade, [(points * 16).round().astype(np.int32)], (0.55,), shift=4)

    def noise(self, cell: float, size: tuple[int, int], stretch: float = 1.0) -> np.ndarray:
        """Smooth noise of about unit variance, of `size` (columns, rows).

        `cell` is how far its grid points are apart, in heights; `stretch` widens them.
        """
        shape = (round(1 / cell) + 1, round(self.width / self.height / cell / stretch) + 1)
        grid = self.rng.standard_normal(shape).astype(np.float32)
        return cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)

    def finish(self, texture: dict[str, tuple[float, float]], min_visible: dict[str, int]) -> Scene:
        """Light the canvas, average it down, add textures and noise, and read the segments off.

        Args:
            texture: by class, the amplitude of the noise of single pixels and of patches.
            min_visible: by class, the pixels below which a segment becomes void.
        """
        size, light = (self.width, self.height), self.lighting
        shade = cv2.resize(self.shade, size, interpolation=cv2.INTER_AREA)
        shade = cv2.GaussianBlur(shade, (0, 0), self.height / 150)
        shade = cv2.resize(shade, (self.columns, self.rows))
        strength = (shade * (1 - self.glow) + self.glow)[..., None]
        tint = light.light.astype(np.float32)
        lit = self.colour * strength * (tint + (1 - tint) * self.glow[..., None])
        image = cv2.resize(lit, size, interpolation=cv2.INTER_AREA)
        if light.lamps:
            lamps = self.colour * (self.glow * (self.ids != self.stuff("sky")))[..., None]
            lamps = cv2.resize(lamps, size, interpolation=cv2.INTER_AREA)
            image += 0.9 * light.lamps * cv2.GaussianBlur(lamps, (0, 0), self.height / 96)

        ids = self._pixel_segments()
        amplitudes = np.array([(0, 0)] + [texture.get(n, (0, 0)) for n in self.segments])
        fine, coarse = amplitudes.astype(np.float32)[ids].transpose(2, 0, 1)
        # Texture vanishes towards the horizon, where a pixel averages over metres.
        below = np.arange(self.height) * SAMPLES / self.horizon - 1
        nearness = np.clip(np.where(below > 0, below * 2 + 0.15, 0.6), 0, 1)[:, None]
        grain = self.rng.standard_normal((self.height, self.width))
        image *= (1 + (fine * grain + coarse * self.noise(0.12, size)) * nearness)[..., None]
        image *= self.rng.uniform(0.92, 1.1) * self.rng.uniform(0.97, 1.03, 3)
        image += self.rng.normal(0, 0.01, image.shape)
        image = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)

        kept, segments = np.zeros_like(ids), []
        areas = np.bincount(ids.ravel(), minlength=len(self.segments) + 1)
        for i, name in enumerate(self.segments, start=1):
            if areas[i] >= min_visible.get(name, 1):
                segments.append(name)
                kept[ids == i] = len(segments)
        return Scene(image, kept, segments)

    def _pixel_segments(self) -> np.ndarray:
        """The segment in the middle of each pixel, void (0) where it has less than half of it."""
        points = self.ids.reshape(self.height, SAMPLES, self.width, SAMPLES).transpose(0, 2, 1, 3)
        points = points.reshape(self.height, self.width, SAMPLES**2)
        middle = points[..., SAMPLES**2 // 2]
        share = (points == middle[..., None]).sum(axis=-1)
        return np.where(2 * share > SAMPLES**2, middle, 0).astype(np.int32)
