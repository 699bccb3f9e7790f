"""Pictures show the numbers they were given, for few classes and many, and say no to what cannot be drawn."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from modalign.errors import InputError
from modalign.evaluate.metrics import ClassAccuracy, confusion, mean_interval, per_class_accuracy, reliability
from modalign.evaluate.runs import Summary
from modalign.report import figures
from modalign.report.style import SERIES, Picture, settings

SVG = "{http://www.w3.org/2000/svg}"
MANY = tuple(f"class {i}" for i in range(100))
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def words(picture: Picture) -> list[str]:
    return [node.text.strip() for node in ElementTree.fromstring(picture.svg).iter(f"{SVG}text") if node.text]


def answers(classes: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    y = rng.integers(0, classes, n)
    return y, np.where(rng.random(n) < 0.9, y, (y + 1) % classes)


def rows() -> list[Summary]:
    table = {"Linear probe": (0.66, 0.84, 0.92), "CMM": (0.82, 0.91, 0.95)}
    summaries = [Summary("Zero-shot", 0, mean_interval([0.78, 0.78, 0.78]), 0.0)]
    for name, means in table.items():
        for shots, mean in zip((1, 4, 16), means, strict=True):
            summaries.append(Summary(name, shots, mean_interval([mean - 0.01, mean, mean + 0.01]), 1.0))
    return summaries


def gap(n: int = 60) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, 8)) + 3, rng.normal(size=(3, 8))), (rng.normal(size=(n, 8)), rng.normal(size=(3, 8)))


MAKERS: dict[str, Callable[[], Picture]] = {
    "curve": lambda: figures.accuracy_over_labels(rows()),
    "confusion 10": lambda: figures.confusion_matrix(confusion(*answers(10, 500), 10), DIGITS),
    "confusion 100": lambda: figures.confusion_matrix(confusion(*answers(100, 900), 100), MANY),
    "bars": lambda: figures.per_class_bars(per_class_accuracy(*answers(10, 500), DIGITS)),
    "reliability": lambda: figures.reliability_diagram({"before": reliability(np.full((9, 2), 0.5), np.arange(9) % 2)}),
    "gap": lambda: figures.modality_gap(*gap(), labels=np.arange(60) % 3, notes=("KL 14.2", "KL 0.1")),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_picture_is_well_formed_and_the_same_twice(name: str) -> None:
    one, two = MAKERS[name](), MAKERS[name]()
    assert one.svg == two.svg
    assert len(ElementTree.fromstring(one.svg)) > 0
    assert one.alt.endswith(".")
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan", "", one.svg.lower())


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "confusion 100"])
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


def test_curve_names_lines_at_their_ends_and_the_shots() -> None:
    found = words(figures.accuracy_over_labels(rows()))
    assert {"Zero-shot 78.0", "Linear probe 92.0", "CMM 95.0", "1", "4", "16"} <= set(found)


def test_names_of_lines_that_end_together_do_not_overlap() -> None:
    close = [Summary(f"method {i}", 16, mean_interval([0.9 + i * 1e-4] * 3), 0.0) for i in range(6)]
    svg = ElementTree.fromstring(figures.accuracy_over_labels(close).svg)
    heights = sorted(float(t.get("y")) for t in svg.iter(f"{SVG}text") if (t.text or "").strip().startswith("method"))
    assert len(heights) == 6
    assert min(np.diff(heights)) > 11


def test_one_seed_draws_a_line_without_a_band() -> None:
    single = [Summary("CMM", k, mean_interval([0.8 + k / 100]), 0.0) for k in (1, 4)]
    many = [Summary("CMM", k, mean_interval([0.8 + k / 100, 0.8, 0.9]), 0.0) for k in (1, 4)]
    assert figures.accuracy_over_labels(single).svg.count("fill-opacity: 0.15") == 0
    assert figures.accuracy_over_labels(many).svg.count("fill-opacity: 0.15") == 1


def test_confusion_shows_every_count_of_few_classes() -> None:
    table = np.array([[7, 2], [0, 11]])
    found = words(figures.confusion_matrix(table, ["cat", "dog"]))
    assert {"7", "2", "11", "cat", "dog"} <= set(found)
    assert "0" not in found


def test_confusion_of_many_classes_lists_the_most_frequent_mistakes() -> None:
    names = [f"class {i}" for i in range(60)]
    table = np.diag(np.full(60, 20))
    table[3, 5], table[8, 9] = 6, 4
    found = words(figures.confusion_matrix(table, names))
    assert "① class 3 → class 5, 6 of 26" in found
    assert "② class 8 → class 9, 4 of 24" in found
    assert not any(word.startswith("③") for word in found)


def test_beyond_the_limit_the_most_confused_classes_are_drawn() -> None:
    table = np.diag(np.full(150, 5))
    table[140, 149] = 3
    picture = figures.confusion_matrix(table, [f"class {i}" for i in range(150)], limit=20)
    assert "① class 140 → class 149, 3 of 8" in words(picture)
    assert "750 of 753 right" in picture.alt


def test_right_and_wrong_have_different_colours() -> None:
    right = figures.confusion_matrix(np.diag([3, 4]), ["a", "b"]).svg
    wrong = figures.confusion_matrix(np.array([[0, 3], [4, 0]]), ["a", "b"]).svg
    assert SERIES[0] in right
    assert SERIES[1] not in right
    assert SERIES[1] in wrong
    assert SERIES[0] not in wrong


@pytest.mark.filterwarnings("error")
def test_class_names_are_text_whatever_they_contain() -> None:
    names = ["<script>alert(1)</script>", "R&D $5_note$", 'quo"te', "雪"]
    found = words(figures.confusion_matrix(np.eye(4, dtype=int), names))
    assert {"R&D $5_note$", 'quo"te', "雪"} <= set(found)
    assert any(word.startswith("<script>") for word in found)


def test_bars_put_the_worst_class_first_and_count_the_rest() -> None:
    known = [ClassAccuracy(f"class {i}", 10, i / 60, 0.0, 1.0) for i in range(60)]
    found = words(figures.per_class_bars([*known, ClassAccuracy("empty", 0, None, None, None)], limit=40))
    assert "class 0" in found
    assert "class 39" in found
    assert "class 40" not in found
    assert "and 20 more classes at 66.7 % or above" in found
    assert "empty" not in found


def test_reliability_says_the_calibration_error() -> None:
    p = np.tile([0.8, 0.2], (10, 1))
    y = np.array([0] * 6 + [1] * 4)  # 80 % sure, 60 % right
    assert "fitted: off by 20.0 points on average" in words(figures.reliability_diagram({"fitted": reliability(p, y)}))


def test_gap_is_drawn_in_one_plane_where_that_is_possible() -> None:
    images, texts = gap()[0]
    far, near = (images + 50, texts), (images, texts)
    shared = figures.modality_gap(far, near).figure.axes[:2]
    assert shared[0].get_xlim() == shared[1].get_xlim()
    apart = figures.modality_gap(far, (np.ones((5, 3)) * [[1], [2], [3], [4], [5]], np.eye(3))).figure.axes[:2]
    assert apart[0].get_xlim() != apart[1].get_xlim()


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda: figures.accuracy_over_labels([]), "at least one summary"),
        (lambda: figures.confusion_matrix(np.eye(3), ["a", "b"]), "2 names"),
        (lambda: figures.confusion_matrix(np.zeros((0, 0)), []), "0 names"),
        (lambda: figures.per_class_bars([]), "at least one class"),
        (lambda: figures.reliability_diagram({}), "at least one series"),
        (lambda: figures.modality_gap((np.ones((3, 4)), np.ones((2, 5))), gap()[1]), r"\(C, d\) texts"),
        (lambda: figures.modality_gap(*gap(), labels=np.arange(60) % 4), "one text a class"),
        (lambda: figures.modality_gap(*gap(), labels=[0, 1]), "got 2 labels"),
        (lambda: figures.modality_gap((np.full((3, 4), np.nan), np.ones((2, 4))), gap()[1]), "finite"),
    ],
)
def test_what_cannot_be_drawn_is_explained(call: Callable[[], Picture], wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        call()
