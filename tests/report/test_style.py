"""The shared style: distinguishable colors, and reproducible pictures."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from modalign.core.errors import InputError
from modalign.report import style
from modalign.report.style import (
    DARK,
    INK,
    MUTED,
    ON_FAINT,
    ON_STRONG,
    RIGHT,
    SERIES,
    STRONG,
    SURFACE,
    WRONG,
    Picture,
    canvas,
    panel,
    settings,
)

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
SEEN_BY = {
    "everybody": np.eye(3),
    "deuteranopes": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopes": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "tritanopes": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
LIGHT_SERIES, DARK_SERIES = list(SERIES), [DARK[color] for color in SERIES]


def linear(color: str) -> np.ndarray:
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    dark, light = sorted(float(TO_XYZ[1] @ linear(c)) for c in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("who", SEEN_BY)
@pytest.mark.parametrize("series", [LIGHT_SERIES, DARK_SERIES], ids=["light", "dark"])
def test_series_are_distinguished_by(who: str, series: list[str]) -> None:
    for one, other in itertools.combinations(series, 2):
        distance = np.linalg.norm(lab(SEEN_BY[who] @ linear(one)) - lab(SEEN_BY[who] @ linear(other)))
        assert distance > 12, (one, other)


@pytest.mark.parametrize("color", [INK, MUTED, *SERIES])
def test_words_can_be_read_in_light_and_dark(color: str) -> None:
    assert contrast(color, SURFACE) >= 4.5
    assert contrast(DARK[color], DARK[SURFACE]) >= 4.5


def on_surface(end: str, surface: str, share: float) -> np.ndarray:
    """Linear RGB of a color of that opacity on a page; browsers mix in sRGB."""
    a, b = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for c in (surface, end))
    mixed = (1 - share) * a + share * b
    return np.where(mixed <= 0.04045, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)


LIGHT = {color: color for color in DARK}
SHARES = np.linspace(0, 1, 101)


@pytest.mark.parametrize("end", [RIGHT, WRONG])
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_equal_steps_of_a_share_are_nearly_equal_steps_of_lightness(end: str, theme: dict[str, str]) -> None:
    lightness = np.array([lab(on_surface(theme[end], theme[SURFACE], s))[0] for s in SHARES])
    steps = np.diff(lightness[::10]) * np.sign(lightness[-1] - lightness[0])
    assert steps.min() > 0
    assert steps.max() / steps.min() < 1.4
    assert np.corrcoef(SHARES, lightness)[0, 1] ** 2 > 0.995


@pytest.mark.parametrize("end", [RIGHT, WRONG])
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_numbers_can_be_read_on_every_share(end: str, theme: dict[str, str]) -> None:
    for share in SHARES:
        ink = theme[ON_STRONG if share >= STRONG else ON_FAINT]
        dark, light = sorted(
            float(TO_XYZ[1] @ rgb) for rgb in (on_surface(theme[end], theme[SURFACE], share), linear(ink))
        )
        assert (light + 0.05) / (dark + 0.05) >= 4.5, share


@pytest.mark.parametrize("who", SEEN_BY)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_right_and_wrong_have_distinct_colors_of_equal_lightness(who: str, theme: dict[str, str]) -> None:
    for share in (0.4, 1.0):
        right, wrong = (lab(SEEN_BY[who] @ on_surface(theme[end], theme[SURFACE], share)) for end in (RIGHT, WRONG))
        assert np.linalg.norm(right - wrong) > 12
        assert who != "everybody" or abs(right[0] - wrong[0]) < 3


def drawing(label: str = "a < b & $x_1$") -> Picture:
    with settings():
        figure = canvas(200, 100)
        axes = panel(figure, 30, 20, 10, 10)
        axes.plot([0, 1, 2], [1, 3, 2], "o-", color=SERIES[0], label=label)
        axes.fill_between([0, 1, 2], [0, 2, 1], [2, 4, 3], color=SERIES[1], alpha=0.2)
        axes.text(0.5, 0.5, label, color=INK)
    return Picture(figure, f"Says {label}")


def test_svg_is_well_formed_and_has_a_description() -> None:
    root = ElementTree.fromstring(drawing().svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox") == "0 0 200 100"
    assert root.get("role") == "img"
    assert root.get("aria-label") == "Says a < b & $x_1$"
    assert "a < b & $x_1$" in [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_svg_is_the_same_whatever_the_user_has_set_and_their_settings_stay() -> None:
    first = drawing().svg
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.hashsalt": "theirs", "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        assert drawing().svg == first
        assert dict(matplotlib.rcParams) == before


def test_svg_is_the_same_in_another_process_and_needs_no_pyplot() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_style; print(test_style.drawing().svg); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == drawing().svg.strip()


def test_pictures_on_one_page_share_no_id_and_every_reference_is_kept() -> None:
    one, other = drawing().svg, drawing("other").svg
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((one, other), ids, strict=True):
        assert {*re.findall(r'href="#([^"]+)"', svg), *re.findall(r"url\(#([^)]+)\)", svg)} <= own


def test_on_a_page_colors_follow_the_reader() -> None:
    html = drawing().html()
    assert f"var(--series-1, {SERIES[0]})" in html
    assert f"var(--ink, {INK})" in html
    sheet = style.style_sheet()
    assert f"--series-1:{SERIES[0]}" in sheet.partition("@media")[0]
    assert f"--series-1:{DARK[SERIES[0]]}" in sheet.partition("@media")[2]
    assert "http" not in html


@pytest.mark.parametrize("name", ["a.svg", "a.png", "a.PNG"])
def test_pictures_are_saved_in_the_format_of_their_name(tmp_path: Path, name: str) -> None:
    path = drawing().save(tmp_path / name)
    if path.suffix == ".svg":
        assert path.read_text(encoding="utf-8") == drawing().svg
    else:
        with Image.open(path) as image:
            assert image.size == (400, 200)
            assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
            assert not image.info.keys() & {"Software", "Creation Time"}
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_letters_that_the_font_lacks_are_reported_once_as_pixels_and_kept_in_svg() -> None:
    picture = drawing("日本語 and 中文")
    with pytest.warns(UserWarning, match=r"save it as \.svg") as told:
        picture.png()
    assert len(told) == 1
    assert "日本語 and 中文" in picture.svg


def test_png_is_the_same_every_time() -> None:
    assert drawing().png() == drawing().png()


def test_other_names_and_places_are_refused_with_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.svg or \.png"):
        drawing().save(tmp_path / "a.gif")
    with pytest.raises(InputError, match="writable"):
        drawing().save(tmp_path / "no" / "a.svg")
    assert list(tmp_path.iterdir()) == []
