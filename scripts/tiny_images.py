"""Rendered training images for the embedded pair: characters, shapes and textures, each with its facts.

`render(seed, index)` is a pure function of its two numbers (and of the fonts installed): a 32 x 32 RGB picture
and its *facts*, a tuple `(category, name, case, ink, ground, style)` of indices into the word lists below, −1
where a fact does not apply. `caption(facts, rng)` puts some of the facts into words and returns the sentence with
the facts it mentions, so that training knows exactly which sentences are true of which pictures.

A large share of the characters imitates scanned forms: a binary pen bitmap, stretched to fill its box, averaged
over 4 x 4 blocks to 8 x 8 values with 17 levels and enlarged again with bicubic resampling.
"""

from __future__ import annotations

import math
import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from tiny_strokes import CANVAS, draw_pen, pen_lines

SIZE = 32
DIGIT_NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTER_NAMES = list("abcdefghijklmnopqrstuvwxyz")
SHAPES = ["circle", "square", "triangle", "star", "diamond", "hexagon"]
SHAPES += ["cross", "ring", "heart", "arrow", "crescent", "line"]
TEXTURES = ["horizontal stripes", "vertical stripes", "diagonal stripes", "checkerboard"]
TEXTURES += ["dots", "grid", "gradient", "noise"]
COLOURS = {
    "black": (12, 12, 12),
    "white": (244, 244, 244),
    "gray": (128, 128, 128),
    "red": (214, 34, 34),
    "green": (30, 156, 50),
    "blue": (36, 66, 216),
    "yellow": (240, 216, 40),
    "orange": (244, 136, 24),
    "purple": (132, 44, 172),
    "pink": (246, 138, 186),
    "brown": (122, 74, 34),
    "cyan": (50, 204, 220),
}
CATEGORIES = ["digit", "letter", "shape", "texture"]
NAMES = DIGIT_NAMES + LETTER_NAMES + SHAPES + TEXTURES
CASES = ["capital", "lowercase"]
INKS = list(COLOURS)
STYLES = ["handwritten", "printed", "pixelated", "outlined", "filled"]
FACTS = ("category", "name", "case", "ink", "ground", "style")
FACT_COUNTS = (len(CATEGORIES), len(NAMES), len(CASES), len(INKS), len(INKS), len(STYLES))
Facts = tuple[int, int, int, int, int, int]

TEMPLATES = [
    "{}", "{}.", "a photo of {}.", "a photo of {}", "a picture of {}.", "an image of {}.", "a drawing of {}.",
    "this is {}.", "a photo of the {}.", "a close-up photo of {}.", "a low resolution photo of {}.",
    "a blurry photo of {}.", "a bad photo of {}.", "a good photo of {}.", "a black and white photo of {}.",
    "a cropped photo of {}.", "a rendering of {}.", "a sketch of {}.", "there is {} in the image.", "a scan of {}.",
    "itap of {}.", "a photo of one {}.", "a photo of a {}.", "a photo of a {}.", "a {}", "the {}.", "a photo of my {}.",
]  # fmt: skip
UNUSABLE_FONTS = re.compile(r"LastResort|Siz|NonUni|cmex|cmsy|cmmi|Display|Math|Symbol|Emoji|Dingbats|Icons", re.I)


@cache
def fonts() -> tuple[str, ...]:
    """Latin outline fonts of this machine (fontconfig, and those that matplotlib carries), ordered by file name."""
    found: dict[str, str] = {}
    try:
        listed = subprocess.run(["fc-list", "-f", "%{file}\n"], capture_output=True, text=True, check=False).stdout
    except OSError:
        listed = ""
    paths = [Path(line) for line in listed.splitlines()]
    try:
        import matplotlib

        paths += Path(matplotlib.get_data_path(), "fonts", "ttf").glob("*.ttf")
    except ImportError:
        pass
    for path in paths:
        if path.suffix.lower() in {".ttf", ".otf"} and not UNUSABLE_FONTS.search(path.name):
            found.setdefault(path.name, str(path))
    return tuple(found[name] for name in sorted(found))


@cache
def _font(path: str | None) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, 44) if path else ImageFont.load_default(44)


def _printed(character: str, rng: np.random.Generator) -> Image.Image:
    """A font's glyph, slightly sheared and rotated."""
    choice = fonts()
    font = _font(choice[rng.integers(len(choice))] if choice else None)
    mask = Image.new("L", (CANVAS, CANVAS), 0)
    ImageDraw.Draw(mask).text((CANVAS / 2, CANVAS / 2), character, 255, font=font, anchor="mm")
    a, s, f = rng.normal(0, 0.09), rng.normal(0, 0.12), rng.uniform(0.8, 1.25)
    c = CANVAS / 2
    m = np.array([[math.cos(a), math.sin(a) + s], [-math.sin(a), math.cos(a)]]) * np.array([[f], [1.0]])
    offset = c - m @ np.array([c, c])
    matrix = (m[0, 0], m[0, 1], offset[0], m[1, 0], m[1, 1], offset[1])
    mask = mask.transform(mask.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    if rng.random() < 0.3:
        mask = mask.filter(ImageFilter.MaxFilter(3) if rng.random() < 0.5 else ImageFilter.MinFilter(3))
    return mask


def _polygon(n: int, star: float = 1.0, turn: float = 0.0) -> list[tuple[float, float]]:
    """Corners of a regular polygon with unit radius; `star` < 1 pulls every second corner inwards."""
    angles = [turn + 2 * math.pi * i / n - math.pi / 2 for i in range(n)]
    radii = [1.0 if i % 2 == 0 else star for i in range(n)]
    return [(r * math.cos(a), r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]


ARROW = [(-1, -0.3), (0.1, -0.3), (0.1, -0.85), (1, 0), (0.1, 0.85), (0.1, 0.3), (-1, 0.3)]
CROSS = [(-.3, -1), (.3, -1), (.3, -.3), (1, -.3), (1, .3), (.3, .3),
         (.3, 1), (-.3, 1), (-.3, .3), (-1, .3), (-1, -.3), (-.3, -.3)]  # fmt: skip
HEART = [
    (0.95 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
    for t in np.linspace(0, 2 * math.pi, 40).tolist()
]
ROUND = _polygon(40)
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": ROUND, "ring": ROUND, "crescent": ROUND, "square": _polygon(4, turn=math.pi / 4),
    "triangle": _polygon(3), "star": _polygon(10, 0.42), "diamond": [(0, -1), (0.65, 0), (0, 1), (-0.65, 0)],
    "hexagon": _polygon(6, turn=math.pi / 6), "cross": CROSS, "heart": HEART, "arrow": ARROW,
    "line": [(-1, -0.1), (1, -0.1), (1, 0.1), (-1, 0.1)],
}  # fmt: skip


def _shape(name: str, outlined: bool, rng: np.random.Generator) -> Image.Image:
    turn = rng.uniform(0, 2 * math.pi) if name in {"line", "arrow", "crescent"} else rng.normal(0, 0.12)
    stretch = rng.uniform(0.88, 1.0, 2)
    spin = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    corners = (np.array(OUTLINES[name]) * stretch) @ spin.T
    points = [tuple(p) for p in (corners * (0.46 * CANVAS) + CANVAS / 2).tolist()]
    mask = Image.new("L", (CANVAS, CANVAS), 0)
    pen = ImageDraw.Draw(mask)
    if outlined or name == "ring":
        width = int(rng.integers(9, 13) if name == "ring" else rng.integers(3, 7))
        pen.line([*points, points[0], points[1]], 255, width)
    else:
        pen.polygon(points, 255)
    if name == "crescent":
        shift = np.array([0.45, 0.0]) @ spin.T * CANVAS * 0.46 + CANVAS / 2
        r = 0.4 * CANVAS
        pen.ellipse((shift[0] - r, shift[1] - r, shift[0] + r, shift[1] + r), fill=0)
    return mask


def _texture(name: str, rng: np.random.Generator) -> np.ndarray:
    """Coverage in [0, 1], `SIZE` x `SIZE`."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(float)
    period = rng.uniform(5, 12)
    u, v = (x + rng.uniform(0, period)) / period, (y + rng.uniform(0, period)) / period

    def wave(t: np.ndarray) -> np.ndarray:
        return np.clip(0.5 + 2.5 * np.sin(2 * np.pi * t), 0, 1)

    if name == "horizontal stripes":
        return wave(v)
    if name == "vertical stripes":
        return wave(u)
    if name == "diagonal stripes":
        return wave(0.7 * (u + v) if rng.random() < 0.5 else 0.7 * (u - v))
    if name == "checkerboard":
        return np.clip(0.5 + 3 * np.sin(np.pi * u) * np.sin(np.pi * v), 0, 1)
    if name == "dots":
        return np.clip(6 * (0.32 - np.hypot(u % 1 - 0.5, v % 1 - 0.5)) + 0.5, 0, 1)
    if name == "grid":
        return np.clip(1.2 - 8 * (np.minimum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)) - 0.06), 0, 1)
    if name == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        ramp = (x - 15.5) * np.cos(angle) + (y - 15.5) * np.sin(angle)
        return np.clip(0.5 + ramp / 40, 0, 1)
    return rng.random((SIZE, SIZE))


def scanned(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """The mask as a scanned form field: a filled box, binary ink, block means, 8 x 8 with 17 levels, enlarged."""
    mask = mask.crop(mask.getbbox())
    ratio = mask.width / mask.height
    natural = SIZE * ratio
    width = float(np.clip(natural + rng.uniform(0, 1) * (rng.uniform(18, 26) - natural), 7, 30))
    height = SIZE if rng.random() < 0.8 else int(rng.integers(26, SIZE))
    small = mask.resize((round(width), height), Image.Resampling.BILINEAR)
    field = Image.new("L", (SIZE, SIZE), 0)
    spare = SIZE - small.width
    left = int(np.clip(round(spare / 2 + rng.normal(0, 1.5)), 0, spare))
    field.paste(small, (left, int(rng.integers(0, SIZE - height + 1))))
    ink = np.asarray(field) > rng.uniform(45, 140)
    levels = ink.reshape(8, 4, 8, 4).sum((1, 3)).astype(np.uint8)
    enlarged = Image.fromarray((levels * 15.9375).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, np.float32) / 255


def _placed(mask: Image.Image, rng: np.random.Generator, smallest: int) -> np.ndarray:
    """The mask somewhere in the picture, at some size."""
    mask = mask.crop(mask.getbbox())
    side = int(rng.integers(smallest, SIZE))
    factor = side / max(mask.size)
    size = (max(2, round(mask.width * factor)), max(2, round(mask.height * factor)))
    field = Image.new("L", (SIZE, SIZE), 0)
    place = tuple(int(rng.integers(0, SIZE - s + 1)) for s in size)
    field.paste(mask.resize(size, Image.Resampling.BOX if rng.random() < 0.3 else Image.Resampling.BICUBIC), place)
    return np.asarray(field, np.float32) / 255


def _colors(rng: np.random.Generator, plain: bool) -> tuple[int, int]:
    """Two colors that differ visibly; `plain` prefers white on black and its reverse."""
    if plain:
        return (1, 0) if rng.random() < 0.75 else (0, 1)
    palette = np.array(list(COLOURS.values()), float)
    while True:
        ink, ground = (int(i) for i in rng.choice(len(INKS), 2, replace=False))
        if np.linalg.norm(palette[ink] - palette[ground]) > 110:
            return ink, ground


def render(seed: int, index: int) -> tuple[np.ndarray, Facts]:
    """Picture `index` of the stream `seed`: uint8 (32, 32, 3) and its facts."""
    rng = np.random.default_rng([seed, index])
    kind = rng.choice(4, p=[0.52, 0.22, 0.16, 0.10])
    case = style = -1
    low = False
    if kind <= 1:
        name = int(rng.integers(10)) if kind == 0 else 10 + int(rng.integers(26))
        character = str(name) if kind == 0 else LETTER_NAMES[name - 10]
        if kind == 1:
            case = int(rng.integers(2))
            character = character.upper() if case == 0 else character
        style = 0 if rng.random() < 0.8 else 1
        low = rng.random() < 0.65
        if style == 0:
            mask = draw_pen(pen_lines(character, rng), float(rng.uniform(0.09 if low else 0.05, 0.23)))
        else:
            mask = _printed(character, rng)
        cover = scanned(mask, rng) if low else _placed(mask, rng, 18)
        style = 2 if low and rng.random() < 0.3 else style
    elif kind == 2:
        shape = int(rng.integers(len(SHAPES)))
        name, style = 36 + shape, 3 if rng.random() < 0.3 else 4
        cover = _placed(_shape(SHAPES[shape], style == 3, rng), rng, 14)
    else:
        texture = int(rng.integers(len(TEXTURES)))
        name = 36 + len(SHAPES) + texture
        cover = _texture(TEXTURES[texture], rng)
    ink, ground = _colors(rng, plain=low and rng.random() < 0.85)
    palette = np.array(list(COLOURS.values()), np.float32)
    shades = palette[[ink, ground]] + rng.normal(0, 9, (2, 3)).astype(np.float32)
    if {ink, ground} == {0, 1} and rng.random() < 0.6:
        shades = np.array([[255.0] * 3, [0.0] * 3] if ink else [[0.0] * 3, [255.0] * 3], np.float32)
    picture = shades[1] + cover[..., None] * (shades[0] - shades[1])
    if rng.random() < 0.25:
        picture = picture + rng.normal(0, rng.uniform(2, 14), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), (int(kind), name, case, ink, ground, style)


def thing(facts: Facts, rng: np.random.Generator) -> tuple[str, set[str]]:
    """A noun phrase without article, and the facts it mentions."""
    kind, name, case = facts[:3]
    word = NAMES[name]
    if kind == 0:
        if rng.random() < 0.4:
            word = str(name)
        pattern = rng.choice(["{}", "{}", "{}", "digit {}", "number {}", "numeral {}", "figure {}", 'number: "{}"'])
        return pattern.format(word), {"name"}
    if kind == 1:
        if case >= 0 and rng.random() < 0.5:
            kind_word = rng.choice([["capital", "uppercase", "upper case"], ["lowercase", "small", "lower case"]][case])
            return f"{kind_word} {'letter ' if rng.random() < 0.6 else ''}{word}", {"name", "case"}
        return (f"letter {word}" if rng.random() < 0.7 else word), {"name"}
    return word, {"name"}


def caption(facts: Facts, rng: np.random.Generator) -> tuple[str, Facts]:
    """A true sentence about the picture, and the facts it mentions (−1 for the others)."""
    kind, _, _, ink, ground, style = facts
    phrase, mentioned = thing(facts, rng)
    if rng.random() < 0.06:
        phrase, mentioned = CATEGORIES[kind], {"category"}
    if style >= 0 and rng.random() < 0.15:
        phrase, mentioned = f"{STYLES[style]} {phrase}", mentioned | {"style"}
    colorful = kind >= 2 or (ink > 1 or ground > 1)
    if rng.random() < (0.55 if colorful else 0.2):
        phrase, mentioned = f"{INKS[ink]} {phrase}", mentioned | {"ink"}
    article = rng.choice(["", "a ", "the "], p=[0.3, 0.4, 0.3])
    if kind == 3:
        article = ""
    text = TEMPLATES[rng.integers(len(TEMPLATES))]
    bare = text in {"{}", "{}."} and rng.random() < 0.5
    if bare or any(determiner in text for determiner in ("a {}", "the {}", "my {}", "one {}")):
        article = ""
    if rng.random() < (0.3 if colorful else 0.1):
        phrase, mentioned = f"{phrase} on a {INKS[ground]} background", mentioned | {"ground"}
    said = tuple(value if fact in mentioned else -1 for fact, value in zip(FACTS, facts, strict=True))
    sentence = text.format(article + phrase)
    if rng.random() < 0.5:
        sentence = re.sub(r"\ba (?=[aeiou])", "an ", sentence)
    return sentence, said


__all__ = [
    "CATEGORIES",
    "DIGIT_NAMES",
    "FACTS",
    "FACT_COUNTS",
    "NAMES",
    "SHAPES",
    "SIZE",
    "TEXTURES",
    "caption",
    "fonts",
    "render",
]
