"""The transformer of images keeps scikit-learn's conventions and gives the vectors of the encoder."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from checkpoints import picture
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    check_get_params_invariance,
    check_no_attributes_set_in_init,
    check_set_params,
)

from modalign import GDA, ImageEmbedder, InputError, load_encoder
from modalign.data.digits import load_digits


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for i in range(60):
        (folder / f"{i:02}.png").write_bytes(digits.read(i))
    return [str(folder / f"{i:02}.png") for i in range(60)]


def test_rows_are_the_vectors_of_the_encoder_in_the_order_given(paths: list[str]) -> None:
    expected = load_encoder("tiny").embed_images(paths).vectors
    order = np.random.default_rng(0).permutation(60)
    embedder = ImageEmbedder().fit(paths)
    shuffled = [paths[i] for i in order]
    assert np.allclose(embedder.transform(shuffled), expected[order], atol=1e-6)
    twice = embedder.transform([paths[3], paths[3]])
    assert np.array_equal(twice[0], twice[1])
    column = np.array(shuffled, dtype=object)[:, None]
    assert np.array_equal(embedder.transform(column), embedder.transform(shuffled))
    assert np.allclose(ImageEmbedder(view="mirror").fit_transform(paths[:2]),
                       load_encoder("tiny").embed_images(paths[:2], view="mirror").vectors, atol=1e-6)  # fmt: skip


def test_conventions_of_scikit_learn() -> None:
    for check in (check_get_params_invariance, check_set_params, check_no_attributes_set_in_init):
        check("ImageEmbedder", ImageEmbedder())
    embedder = ImageEmbedder("tiny-vision", view="mirror", batch_size=3)
    assert clone(embedder).get_params() == embedder.get_params()
    assert repr(embedder) == "ImageEmbedder(batch_size=3, encoder='tiny-vision', view='mirror')"
    with pytest.raises(NotFittedError):
        embedder.transform(["a.png"])
    with pytest.raises(NotFittedError):
        embedder.get_feature_names_out()


def test_frames_and_pickles(paths: list[str]) -> None:
    pandas = pytest.importorskip("pandas")
    embedder = ImageEmbedder().fit(paths)
    again = pickle.loads(pickle.dumps(embedder))
    assert len(pickle.dumps(embedder)) < 10_000  # without the network
    assert np.array_equal(again.transform(paths[:3]), embedder.transform(paths[:3]))
    frame = clone(embedder).set_output(transform="pandas").fit_transform(pandas.DataFrame({"path": paths}))
    assert list(frame.columns[:2]) == ["imageembedder0", "imageembedder1"]
    assert frame.shape == (60, embedder.n_features_out_)


def test_pipelines_cross_validation_and_grid_search_start_at_images(paths: list[str]) -> None:
    labels = load_digits().labels[:60]
    pipeline = make_pipeline(ImageEmbedder(), LogisticRegression(max_iter=2000))
    assert cross_val_score(pipeline, paths, labels, cv=3).mean() > 0.7
    search = GridSearchCV(
        pipeline, {"logisticregression__C": [1.0, 10.0], "imageembedder__encoder": ["tiny", "tiny-vision"]}, cv=3
    ).fit(np.array(paths), labels)
    assert set(search.best_params_) == {"logisticregression__C", "imageembedder__encoder"}
    assert make_pipeline(ImageEmbedder(), GDA()).fit(paths, labels).score(paths, labels) > 0.9


def test_what_is_no_list_of_images_is_refused(paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    embedder = ImageEmbedder().fit(paths)
    with pytest.raises(InputError, match=r"broken\.png"):
        embedder.transform([paths[0], str(tmp_path / "broken.png")])
    for wrong in ("photo.png", [], np.zeros((2, 3)), 3):
        with pytest.raises(InputError, match="Expected"):
            embedder.fit(wrong)
    assert embedder.transform([picture(0)]).shape == (1, embedder.n_features_out_)
