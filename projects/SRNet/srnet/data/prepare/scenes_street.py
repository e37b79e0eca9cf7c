"""Street scenes: what stands in them, where, and how it looks.

Colours alone do not tell the classes apart. Cars, signs and clothes are painted from one set, trees
and grass share their greens, road, pavement and concrete their greys; and the time of day tints
everything, so that the grey of a road at noon is that of the sky at dusk. What a pixel is depends
on shape, on place and on the whole scene.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from srnet.data.prepare.scenes_canvas import Canvas, Lighting, Scene, box, disc

THINGS = ("person", "car", "tree", "sign")
STUFF = ("road", "pavement", "grass", "building", "sky")
MIN_VISIBLE = dict.fromkeys(THINGS, 20)  # pixels; what shows less of a thing is void

PAINTS = np.array(
    [
        (0.80, 0.16, 0.14),
        (0.15, 0.30, 0.65),
        (0.92, 0.78, 0.22),
        (0.90, 0.90, 0.88),
        (0.52, 0.54, 0.57),
        (0.16, 0.17, 0.20),
        (0.20, 0.48, 0.38),
        (0.85, 0.48, 0.20),
    ]
)
WALLS = np.array([(0.70, 0.45, 0.35), (0.82, 0.74, 0.60), (0.56, 0.57, 0.60), (0.75, 0.64, 0.50)])
GREENS = np.array([(0.24, 0.42, 0.16), (0.38, 0.52, 0.20), (0.55, 0.50, 0.22), (0.30, 0.46, 0.26)])
AUTUMN = np.array([(0.66, 0.36, 0.18), (0.78, 0.56, 0.24)])
SKIN = np.array([(0.91, 0.74, 0.60), (0.72, 0.52, 0.38), (0.45, 0.30, 0.22)])

# Time of day -> sky overhead, haze, light, lamps; and how often it comes.
TIMES = {
    "noon": ((0.30, 0.52, 0.84), (0.78, 0.87, 0.95), (1.05, 1.03, 0.98), 0.0),
    "overcast": ((0.56, 0.60, 0.65), (0.78, 0.80, 0.82), (0.80, 0.82, 0.86), 0.1),
    "dusk": ((0.36, 0.32, 0.50), (0.95, 0.62, 0.42), (0.88, 0.68, 0.58), 0.5),
    "night": ((0.05, 0.07, 0.15), (0.18, 0.21, 0.33), (0.40, 0.43, 0.58), 1.0),
}
SHARES = (0.4, 0.2, 0.2, 0.2)
TEXTURE = {
    "road": (0.05, 0.05),
    "pavement": (0.04, 0.05),
    "grass": (0.11, 0.12),
    "building": (0.03, 0.04),
    "sky": (0.01, 0.0),
    "tree": (0.12, 0.08),
}


def draw_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draw a scene; the same state of the generator gives the same scene.

    Args:
        rng: where every choice comes from.
        height: pixels, at least 64.
        width: pixels, at least 64.

    Raises:
        ValueError: the picture is too small.
    """
    if min(height, width) < 64:
        raise ValueError(f"height={height}, width={width}: a scene needs at least 64 pixels each")
    street = Street(rng, height, width)
    street.draw_background()
    # From far to near: what is near hides what is behind it.
    for _, draw in sorted(street.place(), key=lambda item: -item[0]):
        draw()
    return street.canvas.finish(TEXTURE, MIN_VISIBLE)


class Street:
    """One street: chooses its kind, the time of day and the places of things, and draws them."""

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng = rng
        self.time = str(rng.choice(list(TIMES), p=SHARES))
        *colours, lamps = TIMES[self.time]
        sky, haze, light = map(np.array, colours)
        self.canvas = Canvas(
            height,
            width,
            camera=rng.uniform(1.9, 2.8),
            horizon=rng.uniform(0.42, 0.54),
            center=rng.uniform(0.38, 0.62),
            lighting=Lighting(sky, haze, light, lamps, visibility=rng.uniform(60, 250)),
            stuff=STUFF,
            rng=rng,
        )
        self.kind = str(rng.choice(("city", "suburb", "country"), p=(0.4, 0.35, 0.25)))
        pavement = {"city": (2.5, 4.0), "suburb": (1.5, 2.2), "country": (0.0, 0.0)}[self.kind]
        self.road = rng.uniform(3.6, 5.5)  # half its width, metres
        self.curb = self.road + rng.uniform(*pavement)  # to where the pavement reaches

    def pick(self, colours: np.ndarray, spread: float = 0.1) -> np.ndarray:
        """One of the colours, somewhat brighter or darker."""
        return colours[self.rng.integers(len(colours))] * self.rng.uniform(1 - spread, 1 + spread)

    def side(self) -> int:
        """Left or right, -1 or 1."""
        return int(self.rng.choice((-1, 1)))

    def draw_background(self) -> None:
        """Draw sky, hills, grass, pavement and road."""
        rng, canvas, light = self.rng, self.canvas, self.canvas.lighting
        rows, columns, sky = canvas.rows, canvas.columns, canvas.stuff("sky")
        up = np.clip(1 - np.arange(rows) / canvas.horizon, 0, 1)[:, None, None] ** 0.8
        clouds = canvas.noise(0.17, (columns, rows), 2) + 0.5 * canvas.noise(0.06, (columns, rows))
        clouds = 0.8 * np.clip(clouds - rng.uniform(0.2, 1.2), 0, 1)[..., None]
        clear = light.haze * (1 - up) + light.sky * up
        white = 0.5 * light.haze + 0.5 * np.clip(light.light, 0, 1)
        canvas.colour[:] = clear * (1 - clouds) + white * clouds
        canvas.glow[:] = 1
        canvas.ids[:] = sky
        if self.time == "night":
            for _ in range(40):
                star = rng.uniform((0, 0), (columns, canvas.horizon))
                size = rng.uniform(0.003, 0.006) * rows
                canvas.paint(disc(star, size, 6), [0.8] * 3, sky, 0, 1)
        if self.time in ("noon", "night") and rng.random() < 0.6:  # the sun or the moon
            at = rng.uniform((0.1 * columns, 0.05 * rows), (0.9 * columns, 0.25 * rows))
            orb = disc(at, rng.uniform(0.02, 0.04) * rows, 32)
            canvas.paint(orb, (1.0, 0.98, 0.85), sky, 0, 1)

        green, grass = self.pick(GREENS, 0.15), canvas.stuff("grass")
        across = np.arange(0, columns + 8, 8)
        waves = 1 + 0.8 * np.sin(across / columns * rng.uniform(4, 12))
        ridge = np.column_stack([across, canvas.horizon - rows * rng.uniform(0.01, 0.07) * waves])
        hills = np.vstack([ridge, [(columns + 8, rows), (0, rows)]])
        canvas.paint(hills, green, grass, 150)
        grey = np.full(3, rng.uniform(0.34, 0.56))
        canvas.ground(200, green, grass)
        if self.curb > self.road:
            paving = grey * rng.uniform(1.05, 1.35) * rng.uniform(0.94, 1.06, 3)
            canvas.ground(self.curb, paving, canvas.stuff("pavement"))
        road = canvas.stuff("road")
        canvas.ground(self.road, grey, road)
        if rng.random() < 0.6:
            for z in np.arange(rng.uniform(2, 6), 60, 6.0):
                dash = [(-0.08, 0, z), (0.08, 0, z), (0.08, 0, z + 2.5), (-0.08, 0, z + 2.5)]
                canvas.surface(dash, [0.8] * 3, road, z)

    def place(self) -> list[tuple[float, Callable[[], None]]]:
        """Choose what stands where: pairs of a distance and what draws it."""
        rng, items = self.rng, []
        if self.kind != "country" or rng.random() < 0.5:
            for side in (-1, 1):
                z = rng.uniform(3, 12)
                while z < 110:
                    length = rng.uniform(8, 16) if self.kind == "city" else rng.uniform(7, 11)
                    items.append((z + length, self._later(self.house, side, z, length)))
                    gap = {"city": (0, 0), "suburb": (3, 12), "country": (25, 90)}[self.kind]
                    z += length + rng.uniform(*gap)
        for _ in range(rng.integers(1, 4) if self.kind == "city" else rng.integers(3, 8)):
            z = rng.uniform(9, 45)
            x = self.curb - 0.8 if self.kind == "city" else self.curb + rng.uniform(0.8, 9)
            items.append((z, self._later(self.tree, self.side() * x, z)))
        for _ in range(rng.integers(1, 4)):
            z = rng.uniform(6, 18)
            x = self.side() * (self.road + rng.uniform(0.4, 1.0))
            items.append((z, self._later(self.sign, x, z)))
        for lane in (-1, 1):
            z = rng.uniform(7, 16)
            while z < 45 and rng.random() < 0.75:
                x = lane * self.road * rng.uniform(0.42, 0.6)
                draw = self.car_across if rng.random() < 0.2 else self.car
                items.append((z, self._later(draw, x, z)))
                z += rng.uniform(6, 14)
        for _ in range(rng.integers(2, 7)):
            z = rng.uniform(5.5, 15)
            x = self.side() * rng.uniform(self.road + 0.3, max(self.curb, self.road + 1.5))
            if rng.random() < 0.25:
                x = rng.uniform(-self.road, self.road)
            items.append((z, self._later(self.person, x, z)))
        return items

    @staticmethod
    def _later(draw: Callable, *arguments: float) -> Callable[[], None]:
        return lambda: draw(*arguments)

    def house(self, side: int, z: float, length: float) -> None:
        """A house along the street; one with a gabled roof outside the city."""
        rng, canvas, building = self.rng, self.canvas, self.canvas.stuff("building")
        city = self.kind == "city"
        near = side * (self.curb + (0.3 if city else rng.uniform(3, 7)))
        far = near + side * rng.uniform(7, 11)
        high, end = rng.uniform(7, 18) if city else rng.uniform(3.5, 6), z + length
        wall = self.pick(WALLS, 0.2)
        flank = [(near, 0, z), (near, 0, end), (near, high, end), (near, high, z)]
        canvas.surface(flank, wall * 0.82, building, z)
        canvas.upright(0, z, box(near, 0, far, high), wall, building)
        if not city:
            middle, ridge = (near + far) / 2, high + 0.4 * abs(far - near)
            roof = [(near, high, z), (near, high, end), (middle, ridge, end), (middle, ridge, z)]
            canvas.surface(roof, wall * (0.7, 0.55, 0.5), building, z)
            gable = [(near, high), (far, high), (middle, ridge)]
            canvas.upright(0, z, gable, wall, building)
        glass, lit = np.array((0.28, 0.33, 0.40)), np.array((1.0, 0.80, 0.45))
        for a, b, spacing in ((z, end, 2.2), (near, far, 2.4)):
            count = int(abs(b - a) // spacing)
            for i, floor in np.ndindex(count, max(int(high // 3), 1)):
                left, right = a + (i + 0.28) / count * (b - a), a + (i + 0.78) / count * (b - a)
                pane = box(left, 3 * floor + 1.0, right, 3 * floor + 2.4)
                shines = bool(rng.random() < 0.5 * canvas.lighting.lamps)
                colour = lit if shines else glass * rng.uniform(0.7, 1.4)
                if a == z:
                    places = np.column_stack([np.full(4, near), pane[:, 1], pane[:, 0]])
                    canvas.surface(places, colour, building, z, 0.9 * shines)
                else:
                    canvas.upright(0, z, pane, colour, building, 0.9 * shines)

    def tree(self, x: float, z: float) -> None:
        """A broad-leaved tree, green or in autumn, or a conifer."""
        rng, canvas, tree = self.rng, self.canvas, self.canvas.new_thing("tree")
        high, radius = rng.uniform(3.5, 7), rng.uniform(1.1, 1.9)
        leaf = self.pick(AUTUMN if rng.random() < 0.25 else GREENS, 0.2) * (0.95, 0.85, 0.9)
        canvas.shadow(x, z, 2 * radius, 1.6)
        trunk = [(-0.16, 0), (0.16, 0), (0.10, high * 0.6), (-0.10, high * 0.6)]
        canvas.upright(x, z, trunk, (0.30, 0.22, 0.16), tree)
        if rng.random() < 0.3:
            for level in range(3):
                y, half = high * (0.22 + 0.24 * level), radius * (1 - 0.26 * level)
                skirt = [(-half, y), (half, y), (0, y + 0.36 * high)]
                canvas.upright(x, z, skirt, leaf * (0.75 + 0.12 * level), tree)
            return
        for bright in (0.75, 0.9, 1.05):  # lighter clumps towards the top
            for _ in range(6):
                at = rng.normal((0, high + (bright - 1.9) * radius), 0.42 * radius)
                clump = disc(at, radius * rng.uniform(0.35, 0.65))
                canvas.upright(x, z, clump, leaf * bright * rng.uniform(0.93, 1.07), tree)

    def sign(self, x: float, z: float) -> None:
        """A traffic sign: a plate of two paints, of 3, 4, 8 or many corners, on a pole."""
        rng, canvas, sign = self.rng, self.canvas, self.canvas.new_thing("sign")
        high, size = rng.uniform(2.2, 3.0), rng.uniform(0.6, 0.85)
        canvas.upright(x, z, box(-0.07, 0, 0.07, high), (0.45, 0.46, 0.48), sign)
        corners = int(rng.choice((3, 4, 8, 24)))
        turn = np.pi / 2 + (0 if corners == 3 else np.pi / corners)
        rim, face = rng.permutation(len(PAINTS))[:2]
        for scale, paint in ((1.0, rim), (0.72, face)):
            plate = disc((0, high), size * scale, corners, turn)
            canvas.upright(x, z, plate, PAINTS[paint], sign, 0.25 * canvas.lighting.lamps)

    def car(self, x: float, z: float) -> None:
        """A car from behind on the right, from ahead on the left."""
        canvas, car, paint = self.canvas, self.canvas.new_thing("car"), self.pick(PAINTS, 0.15)
        high = self.rng.uniform(1.35, 1.85)
        canvas.shadow(x, z, 2.3, 2.2)
        for wheel in (-0.68, 0.68):
            canvas.upright(x, z, box(wheel - 0.14, 0, wheel + 0.14, 0.4), [0.08] * 3, car)
        right = [(0.86, 0.25), (0.9, 0.9), (0.66, high)]
        body = [*right, *((-u, y) for u, y in reversed(right))]
        canvas.upright(x, z, body, paint, car)
        pane = [(-0.72, 0.92), (0.72, 0.92), (0.56, high - 0.1), (-0.56, high - 0.1)]
        canvas.upright(x, z, pane, (0.2, 0.25, 0.31), car)
        canvas.upright(x, z, box(-0.86, 0.25, 0.86, 0.42), paint * 0.6, car)
        lights = (0.85, 0.10, 0.08) if x > 0 else (1.0, 0.97, 0.80)
        for lamp in (-0.66, 0.66):
            shine = max(0.3, canvas.lighting.lamps)
            canvas.upright(x, z, disc((lamp, 0.7), 0.14), lights, car, shine)

    def car_across(self, x: float, z: float) -> None:
        """A car from the side, heading left or right."""
        canvas, car, paint = self.canvas, self.canvas.new_thing("car"), self.pick(PAINTS, 0.15)
        top, flip = self.rng.uniform(1.35, 1.7), (self.side(), 1)
        canvas.shadow(x, z, 4.7, 2.2)
        body = [(-2.1, 0.35), (2.1, 0.35), (2.1, 0.8), (1.2, 0.95), (-2.0, 0.95)]
        cabin = [(-1.6, 0.95), (1.1, 0.95), (0.4, top), (-1.1, top)]
        rear = [(-1.35, 0.98), (-0.3, 0.98), (-0.3, top - 0.1), (-1.0, top - 0.1)]
        front = [(-0.2, 0.98), (0.9, 0.98), (0.32, top - 0.1), (-0.2, top - 0.1)]
        glass = np.array((0.2, 0.25, 0.31))
        for part, colour in ((body, paint), (cabin, paint), (rear, glass), (front, glass)):
            canvas.upright(x, z, np.array(part) * flip, colour, car)
        for wheel in (-1.3, 1.3):
            canvas.upright(x, z, disc((wheel, 0.36), 0.36), [0.08] * 3, car)

    def person(self, x: float, z: float) -> None:
        """A person, standing or walking; one in four is a child."""
        rng, canvas, person = self.rng, self.canvas, self.canvas.new_thing("person")
        scale = rng.uniform(0.92, 1.08) * (0.7 if rng.random() < 0.25 else 1.0)
        skin, coat, trousers = self.pick(SKIN), self.pick(PAINTS), self.pick(PAINTS) * 0.7
        hair, step = self.pick(SKIN) * 0.4, rng.uniform(0.05, 0.28)
        canvas.shadow(x, z, 0.9, 0.7)
        torso = [(-0.2, 0.8), (0.2, 0.8), (0.27, 1.38), (0.16, 1.5), (-0.16, 1.5), (-0.27, 1.38)]
        arm = np.array([(0.24, 1.42), (0.14, 1.36), (0.3, 0.85), (0.4, 0.9)])
        parts: list[tuple[ArrayLike, np.ndarray]] = [
            ([(-0.17, 0.9), (0.17, 0.9), (foot + 0.09, 0), (foot - 0.09, 0)], trousers)
            for foot in (-step, step)
        ]
        parts += [(torso, coat), (arm, coat * 0.85), (arm * (-1, 1), coat * 0.85)]
        parts += [(disc((0, 1.65), 0.15), hair), (disc((0, 1.62), 0.125), skin)]
        for outline, colour in parts:
            canvas.upright(x, z, np.array(outline) * scale, colour, person)
