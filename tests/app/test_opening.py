"""Opening a session: folders and settings that are not of a studio are refused and left as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import modalign as ma
from modalign.app.studio.opening import open_session
from modalign.core.errors import InputError
from modalign.data.digits import load_digits
from modalign.data.items import Items


@pytest.fixture(scope="module")
def digits() -> Items:
    return load_digits().select(range(20))


def test_the_state_is_never_kept_among_images_or_other_files(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for k in range(4):
        (images / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        (images / "ab"[k % 2] / f"{k}.png").write_bytes(load_digits().read(k))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    for state, words in ((images, "an empty folder"), (images / "new", "among the images"),
                         (tmp_path / "other", "an empty folder")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            open_session(images, state=state, thorough=False)
    with pytest.raises(InputError, match="seed=… as an integer from 0"):
        open_session(images, state=tmp_path / "new", seed=-1)
    assert sorted(tmp_path.rglob("*")) == before


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "a list that does not exist": ({"listed": Path("nope.json")}, "nope.json"),
    "an unknown encoder": ({"encoder": "nope"}, "nope"),
    "labels of a source without any": ({"import_labels": True}, "labels to import"),
    "one class": ({"classes": ["a"]}, "class"),
    "half of a surrogate pair": ({"classes": ["a", "b\ud800"]}, "UTF-8"),
    "a long name": ({"classes": ["a", "b" * 201]}, "1 to 200 characters"),
    "a name without a visible character": ({"classes": ["a", "\u200b"]}, "non-empty text|none that is visible"),
    "two spellings of a name": ({"classes": ["a b", "A  B"]}, "is the class 'a b'"),
    "a model that does not exist": ({"model": Path("nope")}, "nope"),
    "a template that is not one": ({"templates": ("nothing",)}, "a template with"),
    "sentences for an encoder without text": ({"encoder": "tiny-vision", "templates": ("a {}",)}, "reads no sentences"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_session_that_is_refused_leaves_no_folder(case: str, tmp_path: Path, own_cache: None) -> None:
    given, words = REFUSED[case]
    plain = Items(load_digits().ids[:5], load_digits().blobs[:5])
    with pytest.raises(InputError, match=words):
        open_session(plain, state=tmp_path / "state", thorough=False, **{"classes": ["a", "b"], **given})  # type: ignore[arg-type]
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "entries", [{"exam_limit": "abc"}, {"exam_limit": 5}, {"seed": "a"}, {"seed": -1}, {"seed": True}]
)
def test_settings_of_another_form_are_refused(
    entries: dict[str, object], digits: Items, tmp_path: Path, own_cache: None
) -> None:
    state = tmp_path / "state"
    open_session(digits, state=state, thorough=False).close()
    kept = json.loads((state / "studio.json").read_text())
    (state / "studio.json").write_text(json.dumps(kept | entries))
    with pytest.raises(InputError, match="the settings of a studio"):
        open_session(digits, state=state, thorough=False)


def test_a_method_inside_the_encoder_gives_the_first_predictions(tmp_path: Path, own_cache: None) -> None:
    digits = load_digits().select(range(30))
    model = ma.adapt(digits, encoder="tiny", method="coop", epochs=1, validation="none")
    model.save(tmp_path / "model")
    session = open_session(digits, state=tmp_path / "state", model=tmp_path / "model", thorough=False)
    try:
        assert session.base is not None
        own = session.base(model.class_names)
        np.testing.assert_allclose(own, model.predict_proba(digits), atol=1e-5)
        assert set(own.argmax(axis=1)) > {0}
    finally:
        session.close()
