"""The renderer and the training script of the embedded pair (the training itself is not repeated here)."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import tiny_images  # noqa: E402
import tiny_strokes  # noqa: E402

NAMES = tiny_images.NAMES


def test_rendering_depends_on_seed_and_index_alone():
    for index in range(20):
        image, facts = tiny_images.render(3, index)
        again, same = tiny_images.render(3, index)
        assert facts == same
        np.testing.assert_array_equal(image, again)
    assert not np.array_equal(tiny_images.render(3, 0)[0], tiny_images.render(4, 0)[0])


def test_images_are_32_by_32_rgb_and_show_something():
    for index in range(200):
        image, facts = tiny_images.render(0, index)
        assert image.shape == (32, 32, 3)
        assert image.dtype == np.uint8
        assert np.ptp(image, axis=(0, 1)).max() > 40
        assert len(facts) == len(tiny_images.FACTS)


def test_all_content_appears():
    facts = np.array([tiny_images.render(1, index)[1] for index in range(1000)])
    assert set(facts[:, 1]) == set(range(len(NAMES)))
    assert set(facts[:, 0]) == set(range(len(tiny_images.CATEGORIES)))


def test_captions_mention_content_and_only_true_facts():
    rng = np.random.default_rng(0)
    for index in range(300):
        _, facts = tiny_images.render(2, index)
        sentence, said = tiny_images.caption(facts, rng)
        assert all(s in (-1, f) for s, f in zip(said, facts, strict=True))
        if said[1] >= 0:
            word = NAMES[facts[1]]
            assert word in sentence or (facts[0] == 0 and str(facts[1]) in sentence)
        else:
            assert tiny_images.CATEGORIES[facts[0]] in sentence
        if said[3] >= 0:
            assert tiny_images.INKS[facts[3]] in sentence


def test_captions_repeat_by_seed():
    facts = (0, 7, -1, 1, 0, 0)
    first, second = ([tiny_images.caption(facts, np.random.default_rng(s))[0] for s in range(9)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 3


@pytest.mark.parametrize("character", sorted(tiny_strokes.SKELETONS))
def test_every_skeleton_stays_on_the_grid_and_leaves_ink(character):
    for _, skeleton in tiny_strokes.SKELETONS[character]:
        for stroke in tiny_strokes.parse(skeleton):
            for piece in stroke:
                assert piece.min() >= 0
                assert piece.max() <= 1
    mask = np.asarray(tiny_strokes.draw_pen(tiny_strokes.pen_lines(character, np.random.default_rng(0)), 0.1))
    assert 0.01 < (mask > 0).mean() < 0.7


def test_a_curve_passes_through_its_control_points():
    points = np.array([[0, 0], [0.5, 0.2], [1, 1], [0.3, 0.9]])
    curve = tiny_strokes.smooth(points)
    for point in points:
        assert np.abs(curve - point).sum(1).min() < 1e-9


def test_digits_have_regional_variants():
    assert all(len(tiny_strokes.DIGITS[str(d)]) >= 5 for d in range(10))


def imports(name):
    tree = ast.parse((SCRIPTS / name).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (alias.name for alias in node.names)


TRAINING = ["pretrain_tiny.py", "tiny_images.py", "tiny_strokes.py", "tiny_models.py", "pretrain_scenes.py"]


@pytest.mark.parametrize("name", [*TRAINING, "tiny_scenes.py"])
def test_training_never_touches_the_real_digits(name):
    words = ("sklearn", "load_digits", "digit_scenes")
    assert not [module for module in imports(name) if any(word in module for word in words)]


@pytest.mark.parametrize("name", ["pretrain_tiny.py", "pretrain_scenes.py"])
def test_measuring_comes_after_training(name):
    tree = ast.parse((SCRIPTS / name).read_text())
    top = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert "measure_tiny" not in top
    inside = [
        function.name
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and node.module == "measure_tiny"
    ]
    assert inside == ["main"]


def test_help_documents_how_to_reproduce():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "pretrain_tiny.py"), "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--seed", "--steps", "--vision-steps", "--out"):
        assert option in done.stdout
