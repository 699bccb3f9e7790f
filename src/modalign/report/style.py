"""Common style of all figures: colors, fonts and SVG export.

A picture is drawn in light colors. Each of them is also a CSS variable on a page, so that the same SVG follows the
reader's dark mode; on its own it needs no style sheet.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape
from rich.cells import cell_len

from modalign.core.display import visible
from modalign.core.errors import InputError, require
from modalign.core.files import write
from modalign.core.renaming import stacklevel_outside
from modalign.report.templating import render
from modalign.report.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1d2530"  # text and the elements it refers to
MUTED = "#5b6673"  # axes, notes
RULE = "#d8dde3"  # grid lines
SURFACE = "#fefefe"  # background

SERIES = ("#1f6fd0", "#c84a08", "#0f7a5f", "#611a55", "#a2498f")
"""Colors of data: ≥ 4.5 : 1 against white as text, and distinguishable for color-blind readers (see the test)."""
MARKERS = ("o", "s", "^", "D", "v")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))

RIGHT, WRONG = "#104192", "#902308"
"""Ends of two ramps from the surface, of about equal lightness: a share is drawn as that opacity. In light and dark the
lightness is nearly linear in the share (see the test)."""
ON_FAINT, ON_STRONG, STRONG = "#010101", "#ffffff", 0.72
"""Numbers on a ramp, below and from a share of ``STRONG``: ≥ 4.5 : 1 everywhere, light and dark. Not quite black,
which Matplotlib would leave out as the default."""

DARK = dict(
    zip(
        (INK, MUTED, RULE, SURFACE, *SERIES, RIGHT, WRONG, ON_FAINT, ON_STRONG),
        ("#e6eaef", "#9aa6b2", "#333b45", "#14181d", "#5fa8ff", "#ff9555", "#6fe0bf", "#e79adb", "#f3e6a6",
         "#4f9cf5", "#f17752", "#ffffff", "#010101"),
        strict=True,
    )
)  # fmt: skip
"""The same colors on a dark page."""

WIDTH = 430  # CSS pixels of most pictures
WIDEST = 560  # CSS pixels of a picture that may be placed next to another

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_VARIABLE = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    SURFACE: "--surface",
    **{color: f"--series-{i}" for i, color in enumerate(SERIES, start=1)},
    RIGHT: "--right",
    WRONG: "--wrong",
    ON_FAINT: "--on-faint",
    ON_STRONG: "--on-strong",
}

_SETTINGS = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same layout on every machine
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5 note"
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11.5,
    "axes.titlesize": 12,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and copied
    "svg.hashsalt": "modalign",
    "path.simplify": True,
}
_lock = threading.Lock()  # Matplotlib's settings are global: no other figure may be drawn meanwhile


@contextmanager
def settings() -> Iterator[None]:
    """Context manager of the matplotlib settings; those of the user are restored afterwards."""
    matplotlib = require("matplotlib", "plot")
    with _lock, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def canvas(width: float, height: float) -> Figure:
    """An empty figure of so many CSS pixels; one pixel is one unit of the SVG."""
    figure_module = require("matplotlib.figure", "plot")
    return figure_module.Figure(figsize=(width / 72, height / 72), dpi=72)


def panel(figure: Figure, left: float, bottom: float, right: float, top: float, **options: Any) -> Axes:
    """Axes that leave these margins, in pixels, to the edges of the figure."""
    width, height = figure.get_size_inches() * 72
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    return figure.add_axes(box, **options)


@dataclass(frozen=True)
class Picture:
    """A finished figure.

    Attributes
    ----------
    figure : Figure
        Independent of windows and of pyplot.
    alt : str
        Alternative text, one sentence.
    title : str, default=""
        Stands above the picture on a page.
    data : mapping of str to array, default={}
        The plotted numbers, if they differ from the arguments.
    """

    figure: Figure
    alt: str
    title: str = ""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def width(self) -> int:
        """Natural width in CSS pixels."""
        return round(float(self.figure.get_size_inches()[0]) * 72)

    @property
    def wide(self) -> bool:
        """Whether it is too wide to be placed next to another picture on a page."""
        return self.width > WIDEST

    @cached_property
    def svg(self) -> str:
        """A standalone SVG document: no prolog, no date, no external reference; the same bytes every time."""
        backend = require("matplotlib.backends.backend_svg", "plot")
        buffer = io.StringIO()
        silent = {"Date": None, "Creator": None, "Format": None, "Type": None}
        with settings(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # a font of the reader may have it
            backend.FigureCanvasSVG(self.figure).print_svg(buffer, metadata=silent)
        return _tidy(buffer.getvalue(), one_line(self.alt))

    def html(self) -> str:
        """The SVG for a page: its colors become the page's variables."""
        inline = self.svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
        inline = re.sub("|".join(_VARIABLE), lambda m: f"var({_VARIABLE[m.group()]}, {m.group()})", inline)
        return render("picture.html", picture=self, svg=Markup(inline), least=round(0.75 * self.width))

    def png(self, scale: float = 2.0) -> bytes:
        """The picture as pixels on white, ``scale`` pixels to a CSS pixel; warns of letters that its font lacks."""
        backend = require("matplotlib.backends.backend_agg", "plot")
        buffer = io.BytesIO()
        with settings(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            backend.FigureCanvasAgg(self.figure)
            self.figure.savefig(buffer, format="png", dpi=72 * scale, facecolor="white", metadata={"Software": None})
        if any(str(warning.message).startswith("Glyph") for warning in caught):
            warnings.warn(
                "Letters that the font of the picture lacks are squares in it; save it as .svg to show them.",
                stacklevel=stacklevel_outside(),
            )
        return buffer.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write ``.svg`` or ``.png``, by the ending of the name, atomically."""
        path = Path(path)
        if path.suffix.lower() not in (".svg", ".png"):
            raise InputError(f"Expected a picture name ending in .svg or .png, got '{path.name}'.")
        return write(path, self.svg.encode() if path.suffix.lower() == ".svg" else self.png())


def text_width(words: Sequence[str], size: float) -> float:
    """Pixels that the longest of ``words`` takes; letters that the font lacks count as half or whole squares."""
    textpath, font = require("matplotlib.textpath", "plot"), require("matplotlib.font_manager", "plot")
    properties = font.FontProperties(family=_SETTINGS["font.family"], size=size)
    widest = 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        for word in words:
            measured = textpath.text_to_path.get_text_width_height_descent(word, properties, ismath=False)[0]
            widest = max(widest, measured, size * cell_len(word) / 2)
    return widest


def style_sheet() -> str:
    """The colors as CSS variables, light and dark."""
    light = "".join(f"{name}:{color};" for color, name in _VARIABLE.items())
    dark = "".join(f"{name}:{DARK[color]};" for color, name in _VARIABLE.items())
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _tidy(document: str, alt: str) -> str:
    """Matplotlib's document as a lean fragment that may be combined with others on one page."""
    body = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<style.*?</style>", "", document, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*</defs>", "", body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # nothing refers to groups, and pages must not repeat an id
    body = re.sub(r"font-family:[^;\"]*;? ?", "", body)  # inherited from the root
    body = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", body)
    body = visible(re.sub(r"\s*\n\s*", " ", body).replace("> <", "><").strip())
    body = re.sub(r"(opacity: )?(\d+\.\d\d)(\d+)", _rounded, body)
    body = re.sub(_RECTANGLE, r"M\1 \2H\3V\4H\1z", body)
    body = body.replace("xlink:href", "href")
    own = hashlib.sha256(body.encode()).hexdigest()[:8]
    body = re.sub(r'(id="|"#|url\(#)(?=[mpCi])', rf"\g<1>f{own}-", body)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body).groups()  # type: ignore[union-attr]  # Matplotlib writes one
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(alt)}" style="font-family: {FONT}; stroke-linejoin: round">'
    )
    return root + body.partition(">")[2]


_RECTANGLE = r"M ([\d.]+) ([\d.]+) L ([\d.]+) \2 L \3 ([\d.]+) L \1 \4 (?:L \1 \2 )?z"


def _rounded(number: re.Match[str]) -> str:
    """Round to a hundredth of a pixel; opacities, which represent shares, are not rounded."""
    return number.group() if number[1] else number[2]
