"""Characters as pen strokes: skeletons on a coarse grid, jittered, warped and drawn with a pen of any width.

A skeleton is written as a string. Two hexadecimal-like digits `xy` are one control point on an 11 x 11 grid
(`A` is 10; x runs right, y runs down), `!` after a point makes it a corner, `|` lifts the pen. `04 A0! 4A` is
therefore a curve through the first two points that turns sharply at the second. Every character has several
skeletons, because people write it in several ways: 1 with and without flag and base, 7 with and without bar,
open and closed 4, 9 with a straight or a curved leg, 2 with and without loop.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

DIGITS: dict[str, list[tuple[float, str]]] = {
    "0": [
        (4, "50 21 05 29 5A 89 A5 81 50"),
        (2, "70 31 05 28 5A 99 A5 91 60 41"),
        (1, "30 13 06 2A 6A A7 A3 70 30 23"),
        (1, "60 22 07 3A 8A A5 92 60"),
        (0.25, "50 21 05 29 5A 89 A5 81 50|91 19"),
    ],
    "1": [
        (2, "06 60! 6A"),
        (1, "15 50! 5A"),
        (1, "17 60! 7A"),
        (3, "50 55 5A"),
        (1, "60 55 4A"),
        (2, "22 50! 5A"),
        (2, "04 60! 6A"),
        (2, "13 50! 5A|1A 9A"),
        (1, "04 50! 5A|0A AA"),
        (1, "05 70! 7A"),
        (0.5, "50 5A|2A 8A"),
        (0.5, "41 60! 5A"),
    ],
    "2": [
        (2, "13 30 61 63 3A! AA"),
        (2, "12 30 52 54 3A! AA"),
        (1, "03 20 51 64 2A! 29 A9"),
        (1, "13 30 62 55 19 3A AA"),
        (3, "02 20 70 A2 93 46 0A! AA"),
        (2, "12 40 90 94 48 0A! 49 AA"),
        (2, "02 30 80 A3 67 2A 08 27 6A AA"),
        (1, "01 60 A2 65 0A! AA"),
        (1, "03 10 60 84 47 0A! 59 A9"),
        (1, "13 30 80 93 66 2A 09! 38 6A A9"),
        (0.3, "00 A0! 0A! AA"),
    ],
    "3": [
        (1, "11 50 82 54! 76 68 4A 1A"),
        (1, "01 50 73 45! 77 59 1A"),
        (3, "01 40 90 94 45! A6 99 4A 09"),
        (2, "11 50 A2 75 45 85 A8 5A 09"),
        (1, "00 90! 44! A6 99 4A 09"),
        (1, "02 30 A1 84 35 47 55 A7 8A 3A 08"),
        (1, "01 50 A2 65! A8 5A 08"),
        (1, "12 50 92 74 54! 86 A8 8A 1A"),
    ],
    "4": [
        (1, "50 26 18 58 A6|A4 8A"),
        (1, "60 08 48 A6|85 6A"),
        (1, "70 17! 97|84 5A"),
        (2, "20 05! A5|73 7A"),
        (2, "10 06! A6|80 7A"),
        (2, "50 06! A6|73 6A"),
        (2, "60 07! A7|70 7A"),
        (1, "70 06! A6|70! 7A"),
        (1, "A5 05! 70! 7A"),
        (2, "10 04 26 94|A0 8A"),
        (1, "00 04 45 95|A0 9A"),
        (1, "50 17! A6|84 6A"),
        (1, "40 05! 96|83 4A"),
        (1, "20 14 46 95! A0 7A"),
    ],
    "5": [
        (1, "A0 50! 34 65 87 6A 2A"),
        (1, "90 30! 24 64 87 6A 2A"),
        (1, "90 40 23 55 77 59 1A"),
        (2, "90 20! 14! 54 A6 8A 3A 09"),
        (2, "10 04! 54 A7 6A 09|10 A0"),
        (1, "A0 30! 23 65 97 6A 0A"),
        (1, "A0 40 14 55 97 5A 0A"),
        (1, "20 14! 63 A6 8A 3A 08|20 90"),
        (1, "A1 30! 04 45 86 89 4A 09"),
        (1, "80 20! 24 85 A8 6A 0A"),
    ],
    "6": [
        (2, "80 24 06 3A 8A A7 75 36 07"),
        (2, "90 33 06 19 5A 99 A7 76 36 08"),
        (1, "A1 70 23 06 29 6A A8 85 45 07"),
        (2, "60 18 4A 9A 97 57 18"),
        (1, "50 14 07 2A 7A A7 65 26 17"),
        (1, "40 07 3A 8A A6 65 27 18"),
        (1, "70 26 18 4A 8A 97 66 38 4A"),
    ],
    "7": [
        (1, "02 20 80! 64 3A|16 86"),
        (1, "01 70! 64 5A|26 95"),
        (3, "00 A0! 4A"),
        (2, "00 A0! 4A|15 95"),
        (1, "03 00! A0! 4A"),
        (1, "01 30 A0! 64 4A"),
        (1, "02 10! A0! 65 5A|25 A5"),
        (1, "02 31 70 A0! 65 4A|26 96"),
        (1, "00 90! 93 65 5A"),
        (1, "10 A0! 3A|35 A5"),
    ],
    "8": [
        (1, "80 30 22 64 86 7A 4A 36 74 91 70"),
        (1, "60 31 33 65 88 5A 28 36 74 82 60"),
        (1, "50 12 55 92 50|55 27 5A 87 55"),
        (2, "92 50 12 34 66 A8 5A 08 35 73 91"),
        (2, "50 12 55 92 50|55 08 5A A8 55"),
        (2, "A1 50 12 54 A7 5A 07 54 92 50"),
        (1, "60 22 34 76 98 5A 18 36 84 82 60"),
        (1, "A0 40 12 45 87 6A 1A 17 55 A2 90"),
        (1, "50 22 44 76 88 5A 28 46 74 82 50"),
        (1, "70 32 65 A8 6A 18 45 93 80 50"),
    ],
    "9": [
        (2, "80 30 03 25 65 80! 98 7A 3A"),
        (1, "70 30 13 35 75 70! 98 7A 4A 29"),
        (1, "A0 40 03 35 75 A1! 96 8A 4A"),
        (1, "71 30 12 35 65 72 89 AA"),
        (1, "92 60 20 03 35 84 92! 8A"),
        (2, "92 50 03 45 93! 9A"),
        (2, "A1 50 03 46 A2! 96 7A"),
        (2, "92 50 03 45 92 98 5A 19"),
        (1, "83 50 13 35 83! 6A"),
        (1, "A3 70 12 25 75 A2 97 6A 0A"),
        (1, "90 20 03 35 85 91 87 5A"),
        (1, "80 20 04 56 92! 7A"),
        (1, "92 60 13 36 82! 98 7A 2A"),
    ],
}

LETTERS: dict[str, list[tuple[float, str]]] = {
    "A": [(2, "0A 50! AA|26 86"), (1, "0A 13 50 93 AA|06 A6")],
    "B": [(1, "00 0A|00 80 93 05! A6 99 0A"), (1, "10! 1A|00 70 82 15! 97 8A 0A")],
    "C": [(1, "A1 60 15 6A A9")],
    "D": [(1, "00 0A|00 60 A5 6A 0A")],
    "E": [(1, "A0 00! 0A! AA|05 75"), (1, "91 40 13 45! 07 3A A9")],
    "F": [(1, "A0 00! 0A|05 75")],
    "G": [(1, "A1 60 15 5A A8! A5! 65"), (1, "91 40 05 5A 97! 56! A6! A9")],
    "H": [(1, "00 0A|A0 AA|05 A5")],
    "I": [(1, "50 5A|20 80|2A 8A"), (1, "50 5A")],
    "J": [(1, "80 87 5A 18"), (1, "20 A0|70 77 4A 08")],
    "K": [(1, "00 0A|A0 05! AA")],
    "L": [(1, "00 0A! AA")],
    "M": [(1, "0A 00! 57! A0! AA"), (1, "0A 20! 58! 80! AA")],
    "N": [(1, "0A 00! AA! A0")],
    "O": [(1, "50 05 5A A5 50")],
    "P": [(1, "00 0A|00 80 A3 75 05")],
    "Q": [(1, "50 05 5A A5 50|67 AA")],
    "R": [(1, "00 0A|00 80 A3 75 05|55 AA")],
    "S": [(1, "A1 60 13 55 97 5A 09")],
    "T": [(1, "00 A0|50 5A")],
    "U": [(1, "00 07 5A A7 A0")],
    "V": [(1, "00 5A! A0")],
    "W": [(1, "00 2A! 53! 8A! A0")],
    "X": [(1, "00 AA|A0 0A")],
    "Y": [(1, "00 55! A0|55 5A")],
    "Z": [(1, "00 A0! 0A! AA"), (1, "00 A0! 0A! AA|25 85")],
    "a": [(1, "92 50 06 3A 87|90 98 AA"), (1, "12 50 93! 9A|95 35 08 4A 98")],
    "b": [(1, "00 0A|06 53 A6 6A 08")],
    "c": [(1, "A2 50 05 4A A8")],
    "d": [(1, "A0 AA|A6 43 07 4A A8")],
    "e": [(1, "05 A5! 80 30 06 3A A9")],
    "f": [(1, "A1 70 53! 5A|24 94")],
    "g": [(1, "93 50 03 46 94|90 97 5A 19")],
    "h": [(1, "00 0A|06 54 96! AA")],
    "i": [(1, "53 5A|50 51")],
    "j": [(1, "73 77 4A 18|70 71")],
    "k": [(1, "00 0A|93 06! 9A")],
    "l": [(1, "40 48 6A"), (1, "17 62 50 44 58 8A")],
    "m": [(1, "00 0A|03 30 54! 5A|53 80 A4! AA")],
    "n": [(1, "00 0A|04 50 94! 9A")],
    "o": [(1, "50 05 5A A5 50")],
    "p": [(1, "00 0A|01 50 A3 56 05")],
    "q": [(1, "A0 AA|A1 50 03 56 A5")],
    "r": [(1, "10 1A|14 40 91")],
    "s": [(1, "91 50 13 55 97 5A 19")],
    "t": [(1, "50 58 7A 98|23 83")],
    "u": [(1, "00 07 4A 97|90 9A")],
    "v": [(1, "00 5A! A0")],
    "w": [(1, "00 2A! 53! 8A! A0")],
    "x": [(1, "00 AA|A0 0A")],
    "y": [(1, "00 56|A0 56! 2A"), (1, "00 15 46 90|90 96 5A 19")],
    "z": [(1, "00 A0! 0A! AA")],
}

SKELETONS = {**DIGITS, **LETTERS}
CANVAS = 64


def parse(skeleton: str) -> list[list[np.ndarray]]:
    """A skeleton string as strokes; a stroke is a list of smooth pieces, each an (n, 2) array in [0, 1]."""
    strokes = []
    for text in skeleton.split("|"):
        pieces: list[list[list[float]]] = [[]]
        for word in text.split():
            point = [int(word[0], 16) / 10, int(word[1], 16) / 10]
            pieces[-1].append(point)
            if word.endswith("!"):
                pieces.append([point])
        strokes.append([np.array(piece) for piece in pieces if len(piece) > 1])
    return strokes


def smooth(points: np.ndarray, steps: int = 7) -> np.ndarray:
    """Catmull-Rom curve through `points` (n, 2), as a polyline."""
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    a, b, c, d = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.vstack([curve.transpose(1, 0, 2).reshape(-1, 2), points[-1]])


def pen_lines(character: str, rng: np.random.Generator, looseness: float = 1.0) -> list[np.ndarray]:
    """One random handwriting of `character`: polylines in a box of about [-0.5, 0.5] squared."""
    variants = SKELETONS[character]
    weights = np.array([weight for weight, _ in variants])
    strokes = parse(variants[rng.choice(len(variants), p=weights / weights.sum())][1])
    jitter = looseness * rng.uniform(0.01, 0.075)
    slant, angle = looseness * rng.normal(0, 0.19), looseness * rng.normal(0, 0.11)
    aspect = rng.uniform(0.5, 1.0)
    spin = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    frame = spin @ np.array([[aspect, -slant], [0.0, 1.0]])
    wave = rng.normal(0, 0.03 * looseness, (2, 2))
    phase = rng.uniform(0, 2 * math.pi, (2, 2))
    lines = []
    for pieces in strokes:
        drift = rng.normal(0, jitter * 0.5, 2)
        seam = None
        curves = []
        for piece in pieces:
            moved = piece - 0.5 + drift + rng.normal(0, jitter, piece.shape)
            if seam is not None:
                moved[0] = seam
            seam = moved[-1]
            curves.append(smooth(moved))
        line = np.vstack(curves)
        x, y = line[:, :1], line[:, 1:]
        line = line + wave[0] * np.sin(2 * math.pi * x + phase[0]) + wave[1] * np.sin(2 * math.pi * y + phase[1])
        lines.append(line @ frame.T)
    return lines


def draw_pen(lines: list[np.ndarray], width: float) -> Image.Image:
    """Rasterize polylines on a `CANVAS`-pixel mask; `width` is the pen's diameter as a share of the height."""
    everything = np.vstack(lines)
    low, high = everything.min(0), everything.max(0)
    scale = CANVAS * (0.96 - width) / max((high - low).max(), 0.2)
    diameter = max(2, round(width * CANVAS))
    mask = Image.new("L", (CANVAS, CANVAS), 0)
    pen = ImageDraw.Draw(mask)
    for line in lines:
        pixels = [tuple(p) for p in ((line - (low + high) / 2) * scale + CANVAS / 2).tolist()]
        pen.line(pixels, fill=255, width=diameter, joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            r = diameter / 2 - 0.5
            pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return mask
