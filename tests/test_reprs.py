"""What an object shows of itself fits a notebook cell, however large it is, and runs nothing that is in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import modalign as ma
from modalign.core.features import Quarantined
from modalign.data.digits import load_digits
from modalign.evaluate.metrics import accuracy, per_class_accuracy
from modalign.model.predictions import Evaluation, Predictions

EVIL = "<script>alert(1)</script>\x1b[2J" + "x" * 300


def large_predictions(n: int = 5000, classes: int = 1000, name: str = EVIL) -> Predictions:
    table = np.random.default_rng(0).dirichlet(np.ones(classes), n)
    names = tuple(f"{name}{k}" for k in range(classes))
    left_out = tuple(Quarantined(f"{name}{i}", name) for i in range(100))
    return Predictions(tuple(f"{name}{i}" for i in range(n)), names, table, left_out, np.arange(n) % 3 == 0)


def large_evaluation(n: int = 5000, classes: int = 1000) -> Evaluation:
    labels, answers = np.random.default_rng(0).integers(0, classes, (2, n))
    names = tuple(f"{EVIL}{k}" for k in range(classes))
    return Evaluation(
        accuracy(labels, answers), per_class_accuracy(labels, answers, names), np.zeros((classes, classes), int), 0.1,
        tuple(map(str, range(n))), labels, np.zeros((n, classes)), names, (), (),
    )  # fmt: skip


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ma.Classifier:
    encoder = ma.load_encoder("tiny", cache=tmp_path_factory.mktemp("cache"))
    digits = load_digits().select(np.arange(0, 1797, 6))
    return ma.adapt(digits, encoder=encoder, method="zero_shot")


def things(classifier: ma.Classifier) -> dict[str, object]:
    large = large_predictions(50, 200)
    return {
        "Classifier": classifier,
        "Predictions": large_predictions(),
        "Prediction": large[0],
        "a sure Prediction": large[1],
        "Evaluation": large_evaluation(),
        "no Predictions": Predictions((), ("a", "b"), np.empty((0, 2))),
    }


def test_a_repr_is_short_safe_and_one_line(classifier: ma.Classifier) -> None:
    for name, thing in things(classifier).items():
        assert len(repr(thing)) <= 300, name
        assert repr(thing).isprintable(), name
        assert repr(thing).startswith(name.split()[-1]), name


def test_html_is_balanced_escaped_and_bounded(classifier: ma.Classifier) -> None:
    for name, thing in things(classifier).items():
        page = thing._repr_html_()
        assert "<script" not in page, name
        assert "\x1b" not in page, name
        assert len(page) < 20_000, name
        opened: list[str] = []

        class Balance(HTMLParser):
            def handle_starttag(self, tag: str, _: object) -> None:
                opened.append(tag)  # noqa: B023

            def handle_endtag(self, tag: str) -> None:
                assert opened.pop() == tag  # noqa: B023

        Balance().feed(page)
        assert not opened, name


def test_numbers_in_a_repr_are_those_of_the_object(classifier: ma.Classifier) -> None:
    assert f"fitted on {len(classifier.fitted_on)} images" in repr(classifier)
    assert "10 classes" in repr(classifier)
    found = classifier.predict(load_digits().select(np.arange(40)))
    assert "Predictions(40 images, 10 classes" in repr(found)
    counts = [int(count) for count in re.findall(r"' (\d+)", repr(found))]
    assert counts == sorted((found.names.count(n) for n in set(found.names)), reverse=True)[:3]
    assert str(found).count("\n") == 11  # header, ten rows, and how many more
    assert "… 30 more" in str(found)
    assert found.ids[0] in found[0]._repr_html_()
