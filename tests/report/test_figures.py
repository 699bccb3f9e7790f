"""Figures show the given numbers, for few classes and many, and refuse what cannot be drawn."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from modalign.core.errors import InputError
from modalign.evaluate.metrics import (
    ClassAccuracy,
    ReliabilityBin,
    confusion,
    mean_interval,
    per_class_accuracy,
    reliability,
)
from modalign.evaluate.runs import Summary
from modalign.report.confusion import confusion_matrix, mistakes
from modalign.report.curves import accuracy_over_labels, draws_intervals
from modalign.report.gap import plot_modality_gap
from modalign.report.per_class import per_class_bars
from modalign.report.reliability import FEW, reliability_diagram
from modalign.report.style import RIGHT, SERIES, SURFACE, WRONG, Picture, settings

SVG = "{http://www.w3.org/2000/svg}"
MANY = tuple(f"class {i}" for i in range(100))
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NASTY = "<b>\x1b[31m\x00\u202ered</b> & \ud800\ufffe \"'\n\r\t$x_1$"


def words(picture: Picture) -> list[str]:
    return [node.text.strip() for node in ElementTree.fromstring(picture.svg).iter(f"{SVG}text") if node.text]


def answers(classes: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    y = rng.integers(0, classes, n)
    return y, np.where(rng.random(n) < 0.9, y, (y + 1) % classes)


def interval(*values: float):
    return mean_interval(values, bounds=(0, 1))


def rows(shift: float = 0.0) -> list[Summary]:
    table = {"Linear probe": (0.66, 0.84, 0.92), "CMM": (0.82, 0.91, 0.95)}
    summaries = [Summary("Zero-shot", 0, interval(*[0.78 + shift] * 3), 0.0)]
    for name, means in table.items():
        for shots, mean in zip((1, 4, 16), means, strict=True):
            summaries.append(Summary(name, shots, interval(*(mean + shift + d for d in (-0.01, 0, 0.01))), 1.0))
    return summaries


def gap(n: int = 60) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, 8)) + 3, rng.normal(size=(3, 8))), (rng.normal(size=(n, 8)), rng.normal(size=(3, 8)))


BINS = (ReliabilityBin(0.25, 0.5, 2), ReliabilityBin(0.6, 0.55, 40), ReliabilityBin(0.9, 0.95, 160))
MAKERS: dict[str, Callable[[], Picture]] = {
    "curve": lambda: accuracy_over_labels(rows(), chance=0.1),
    "curve near chance": lambda: accuracy_over_labels(rows(-0.3), chance=0.3),
    "confusion 10": lambda: confusion_matrix(confusion(*answers(10, 500), 10), DIGITS),
    "confusion 20": lambda: confusion_matrix(confusion(*answers(20, 500), 20), MANY[:20]),
    "confusion 100": lambda: confusion_matrix(confusion(*answers(100, 900), 100), MANY),
    "bars": lambda: per_class_bars(per_class_accuracy(*answers(10, 500), DIGITS), chance=0.1),
    "reliability": lambda: reliability_diagram({"uncalibrated": BINS, "calibrated": BINS[1:]}, chance=0.1),
    "gap": lambda: plot_modality_gap(*gap(), labels=np.arange(60) % 3, notes=("KL 14.2", "KL 0.1")),
    "nasty": lambda: confusion_matrix(np.array([[3, 1], [0, 2]]), [NASTY, "b"]),
    "nasty bars": lambda: per_class_bars(per_class_accuracy([0, 1], [0, 0], [NASTY, "b"])),
    "nasty curve": lambda: accuracy_over_labels([Summary(NASTY, 4, interval(0.5), 0.0)]),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_picture_is_well_formed_and_the_same_twice(name: str) -> None:
    one, two = MAKERS[name](), MAKERS[name]()
    assert one.svg == two.svg
    root = ElementTree.fromstring(one.svg)
    assert len(root) > 0
    assert root.get("aria-label")
    assert one.title
    assert one.svg.isprintable()  # no control character, nothing that turns the direction of writing
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan", "", one.svg.lower())


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("confusion 20", "confusion 100")])
def test_pictures_fit_a_phone_at_three_quarters_of_their_size(name: str) -> None:
    assert 0.75 * MAKERS[name]().width <= 360


@pytest.mark.parametrize("name", MAKERS)
def test_no_word_is_cut_off_at_an_edge(name: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    figure = MAKERS[name]().figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    with settings():
        figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent(renderer)
            assert box.x0 >= -2, text
            assert box.y0 >= -2, text
            assert box.x1 <= width + 2, text
            assert box.y1 <= height + 2, text


# -- curves -----------------------------------------------------------------------------------------------------------


def test_curve_names_lines_at_their_ends_and_the_shots() -> None:
    found = words(accuracy_over_labels(rows()))
    assert {"Zero-shot 78.0", "Linear probe 92.0", "CMM 95.0", "1", "4", "16"} <= set(found)


def test_names_of_lines_that_end_together_do_not_overlap() -> None:
    close = [Summary(f"method {i}", 16, interval(*[0.9 + i * 1e-4] * 3), 0.0) for i in range(6)]
    svg = ElementTree.fromstring(accuracy_over_labels(close).svg)
    heights = sorted(float(t.get("y")) for t in svg.iter(f"{SVG}text") if (t.text or "").strip().startswith("method"))
    assert len(heights) == 6
    assert min(np.diff(heights)) > 11


def test_one_seed_draws_a_line_without_a_band() -> None:
    single = [Summary("CMM", k, interval(0.8 + k / 100), 0.0) for k in (1, 4)]
    many = [Summary("CMM", k, interval(0.8 + k / 100, 0.8, 0.9), 0.0) for k in (1, 4)]
    for summaries, bands in ((single, 0), (many, 1)):
        assert accuracy_over_labels(summaries).svg.count("fill-opacity: 0.15") == bands
        assert draws_intervals(summaries) == bool(bands)


def test_bands_are_announced_exactly_where_they_are_drawn() -> None:
    for methods in (1, 5, 6):
        summaries = [Summary(f"m{i}", k, interval(0.8, 0.9), 0.0) for i in range(methods) for k in (1, 4)]
        assert draws_intervals(summaries) == ("fill-opacity: 0.15" in accuracy_over_labels(summaries).svg)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
@checks(max_examples=30, deadline=None)
def test_chance_is_a_line_where_it_is_on_the_axis_and_a_note_where_it_is_below(a: float, b: float, c: float) -> None:
    picture = accuracy_over_labels([Summary("m", k, interval(v), 0.0) for k, v in ((1, a), (4, b))], chance=c)
    axes = picture.figure.axes[0]
    (label,) = (t.get_text() for t in axes.texts if "chance" in t.get_text())
    lines = [line for line in axes.lines if set(line.get_ydata()) == {100 * c}]
    low, high = axes.get_ylim()
    assert f"chance level {100 * c:.1f} %" in label
    assert ("below this axis" in label) == (100 * c < low) == (not lines)
    assert 100 * c <= high
    assert f"Chance level is {100 * c:.1f} %." in picture.alt


# -- confusion matrix -------------------------------------------------------------------------------------------------


def cells(picture: Picture) -> dict[tuple[str, float], int]:
    """(color, opacity) of the cells → how many of them."""
    found = {}
    for path in ElementTree.fromstring(picture.svg).iter(f"{SVG}path"):
        style = dict(part.split(": ") for part in path.get("style", "").split("; ") if ": " in part)
        if style.get("fill") in (RIGHT, WRONG):
            opacity = float(style.get("fill-opacity", style.get("opacity", 1)))
            found[style["fill"], opacity] = found.get((style["fill"], opacity), 0) + path.get("d").count("M")
    return found


def test_one_mistake_in_twenty_is_a_sixth_as_strong_as_six_and_forty_percent_is_mid() -> None:
    table = np.array([[13, 6, 1], [12, 8, 0], [0, 0, 5]])
    assert cells(confusion_matrix(table, ["a", "b", "c"])) == {
        (RIGHT, 0.65): 1, (WRONG, 0.3): 1, (WRONG, 0.05): 1, (WRONG, 0.6): 1, (RIGHT, 0.4): 1, (RIGHT, 1.0): 1,
    }  # fmt: skip


@given(st.integers(2, 6), st.data())
@checks(max_examples=30, deadline=None)
def test_a_cell_is_as_opaque_as_its_share_of_the_row(n: int, data: st.DataObject) -> None:
    table = np.array(data.draw(st.lists(st.lists(st.integers(0, 30), min_size=n, max_size=n), min_size=n, max_size=n)))
    expected: dict[tuple[str, float], int] = {}
    for i, j in np.argwhere(table):
        key = RIGHT if i == j else WRONG, round(table[i, j] / table[i].sum(), 3)
        expected[key] = expected.get(key, 0) + 1
    assert cells(confusion_matrix(table, [f"c{i}" for i in range(n)])) == expected


def test_shares_are_of_all_answers_also_where_not_all_classes_are_drawn() -> None:
    table = np.diag(np.full(50, 5))
    table[40, :41] = 1  # 40 mistakes of one class and 1 right answer
    shares = {opacity for color, opacity in cells(confusion_matrix(table, MANY[:50], limit=10)) if color == WRONG}
    assert shares == {round(1 / 41, 3)}


@pytest.mark.parametrize("n", [2, 10, 20, 32])
def test_confusion_shows_every_count_where_there_is_room(n: int) -> None:
    table = np.arange(n * n).reshape(n, n) % 977
    found = words(confusion_matrix(table, [f"c{i}" for i in range(n)]))
    assert sorted(int(w) for w in found if w.isdigit()) == sorted(table[table > 0].tolist())


def test_confusion_of_many_classes_lists_the_most_frequent_mistakes() -> None:
    names = [f"class {i}" for i in range(60)]
    table = np.diag(np.full(60, 20))
    table[3, 5], table[8, 9] = 6, 4
    assert mistakes(table) == [(3, 5), (8, 9)]
    found = words(confusion_matrix(table, names))
    assert "① class 3 → class 5, 6 of 26" in found
    assert "② class 8 → class 9, 4 of 24" in found
    assert not any(word.startswith("③") for word in found)


def test_beyond_the_limit_the_most_confused_classes_are_drawn() -> None:
    table = np.diag(np.full(150, 5))
    table[140, 149] = 3
    picture = confusion_matrix(table, [f"class {i}" for i in range(150)], limit=40)
    assert "① class 140 → class 149, 3 of 8" in words(picture)
    assert "750 of 753 right" in picture.alt
    assert "40 classes with the most mistakes" in picture.title


def test_the_most_frequent_mistake_is_drawn_even_between_classes_with_few() -> None:
    table = np.diag(np.full(60, 50))
    table[:20, 20:40] = 1  # 400 mistakes among these, 20 a class
    table[50, 51] = 9
    picture = confusion_matrix(table, MANY[:60], limit=40)
    assert "Most frequent mistake: class 50 taken for class 51, 9 times." in picture.alt
    assert "① class 50 → class 51, 9 of 59" in words(picture)


@pytest.mark.parametrize("n", [100, 1000])
def test_pictures_of_many_classes_stay_small_whatever_is_confused(n: int) -> None:
    table = np.random.default_rng(0).integers(0, 9, (n, n))
    assert len(confusion_matrix(table, [f"class {i}" for i in range(n)]).svg) < 500_000


def test_right_and_wrong_have_different_colors() -> None:
    right = confusion_matrix(np.diag([3, 4]), ["a", "b"])
    wrong = confusion_matrix(np.array([[0, 3], [4, 0]]), ["a", "b"])
    assert cells(right) == {(RIGHT, 1.0): 2}
    assert cells(wrong) == {(WRONG, 1.0): 2}


# -- accuracy per class -----------------------------------------------------------------------------------------------


def test_bars_put_the_worst_class_first_and_count_the_rest() -> None:
    known = [ClassAccuracy(f"class {i}", 10, i / 60, 0.0, 1.0) for i in range(60)]
    found = words(per_class_bars([*known, ClassAccuracy("empty", 0, None, None, None)], limit=40))
    assert "class 0" in found
    assert "class 39" in found
    assert "class 40" not in found
    assert "and 20 more classes at 66.7 % or above" in found
    assert "empty" not in found


def test_bars_show_chance_where_it_is_known() -> None:
    known = per_class_accuracy(*answers(10, 500), DIGITS)
    with_chance, without = per_class_bars(known, chance=0.1), per_class_bars(known)
    assert "dashed: chance level 10.0 %" in words(with_chance)
    assert "Chance level is 10.0 %." in with_chance.alt
    assert not any("chance" in word for word in words(without))
    assert len(with_chance.figure.axes[0].lines) == len(without.figure.axes[0].lines) + 1


# -- calibration ------------------------------------------------------------------------------------------------------


def test_reliability_has_the_calibration_error() -> None:
    p = np.tile([0.8, 0.2], (10, 1))
    y = np.array([0] * 6 + [1] * 4)  # 80 % sure, 60 % right
    assert "fitted: off by 20.0 points on average" in words(reliability_diagram({"fitted": reliability(p, y)}))


def test_dots_grow_with_their_images_and_few_are_hollow_and_not_joined() -> None:
    axes, counts = reliability_diagram({"calibrated": BINS}).figure.axes
    filled, hollow = [c for c in axes.collections if isinstance(c, PathCollection)]
    np.testing.assert_allclose(filled.get_sizes()[1] / filled.get_sizes()[0], 160 / 40)
    assert len(filled.get_offsets()) == sum(b.n >= FEW for b in BINS)
    assert len(hollow.get_offsets()) == sum(b.n < FEW for b in BINS)
    assert hollow.get_facecolor().tolist() != filled.get_facecolor().tolist()
    joined = next(line for line in axes.lines if line.get_color() == SERIES[0])
    assert joined.get_xdata().tolist() == [60, 90]
    tops = [path.vertices[:, 1].max() for path in counts.collections[0].get_paths()]
    assert tops == [b.n for b in BINS]


def test_hollow_dots_have_the_color_of_the_page() -> None:
    svg = reliability_diagram({"calibrated": BINS}).html()
    assert re.search(rf"fill: var\(--surface, {SURFACE}\); stroke: var\(--series-1", svg)


# -- modality gap -----------------------------------------------------------------------------------------------------


def test_gap_is_drawn_in_one_plane_where_that_is_possible() -> None:
    images, texts = gap()[0]
    far, near = (images + 50, texts), (images, texts)
    shared = plot_modality_gap(far, near).figure.axes[:2]
    assert shared[0].get_xlim() == shared[1].get_xlim()
    apart = plot_modality_gap(far, (np.ones((5, 3)) * [[1], [2], [3], [4], [5]], np.eye(3))).figure.axes[:2]
    assert apart[0].get_xlim() != apart[1].get_xlim()


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda: accuracy_over_labels([]), "at least one summary"),
        (lambda: confusion_matrix(np.eye(3), ["a", "b"]), "2 names"),
        (lambda: confusion_matrix(np.zeros((0, 0)), []), "0 names"),
        (lambda: per_class_bars([]), "at least one class"),
        (lambda: reliability_diagram({}), "at least one series"),
        (lambda: plot_modality_gap((np.ones((3, 4)), np.ones((2, 5))), gap()[1]), r"\(C, d\) texts"),
        (lambda: plot_modality_gap(*gap(), labels=np.arange(60) % 4), "one text per class"),
        (lambda: plot_modality_gap(*gap(), labels=[0, 1]), "got 2 labels"),
        (lambda: plot_modality_gap((np.full((3, 4), np.nan), np.ones((2, 4))), gap()[1]), "finite"),
    ],
)
def test_what_cannot_be_drawn_is_explained(call: Callable[[], Picture], wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        call()
