"""open_clip encoders in methods, saved models and the command line."""

import numpy as np
import pytest
from literal_clip import save_open_clip

import modalign as ma
from modalign import cli
from modalign.core.errors import InputError
from modalign.data.digits import DIGIT_TEMPLATES, load_digits
from modalign.data.text.descriptions import sentences
from modalign.methods import TOWER_METHODS, method_class

QUICK = {"epochs": 1, "batch_size": 4, "augmentation": "center", "random_state": 1}
ON_THE_TEXT_SIDE = ("coop", "cocoop", "kgcoop", "plot", "upl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("open_clip")
    return {kind: save_open_clip(root / kind, kind) for kind in ("resnet", "vit-quickgelu")}


@pytest.fixture(scope="module")
def loaded(folders):
    return {kind: ma.load_encoder(folder, device="cpu", cache=False) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def digits():
    items = load_digits()
    return items.select(np.concatenate([np.flatnonzero(items.labels == c)[:1] for c in range(4)]))


def class_text(encoder, items):
    return encoder.embed_texts(sentences(items.class_names, DIGIT_TEMPLATES), class_names=items.class_names)


@pytest.mark.parametrize("name", TOWER_METHODS)
def test_a_resnet_learns_on_the_text_side_and_refuses_the_rest_in_a_sentence(name, loaded, digits):
    encoder = loaded["resnet"]
    method, text = method_class(name)(**QUICK), class_text(encoder, digits)
    if name in ON_THE_TEXT_SIDE:
        scores = method.fit(digits, text=text, encoder=encoder).score_images(digits, encoder)
        assert np.isfinite(scores.logits).all()
        return
    with pytest.raises(InputError, match="got 'resnet', a ResNet, which has no place for visual prompts") as caught:
        method.fit(digits, text=text, encoder=encoder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["maple", "fair"])
def test_a_vit_learns_on_both_sides(name, loaded, digits):
    encoder = loaded["vit-quickgelu"]
    method = method_class(name)(**QUICK).fit(digits, text=class_text(encoder, digits), encoder=encoder)
    assert np.isfinite(method.score_images(digits, encoder).logits).all()


@pytest.mark.parametrize("method", ["cmm", "coop"])
def test_a_model_is_fitted_saved_loaded_and_used(method, folders, photos, tmp_path, own_cache):
    out, answers = tmp_path / "model", tmp_path / "answers.csv"
    quick = ("--set", "epochs=1") if method == "coop" else ("--set", "steps=50")
    arguments = ["fit", photos, "--method", method, "--encoder", folders["resnet"], "--shots", 2, "--out", out, *quick]
    assert cli.run(list(map(str, arguments))) == 0
    assert cli.run(["predict", str(out), str(photos / "cats"), "--out", str(answers)]) == 0
    model = ma.load(out)
    assert model.encoder.spec.name == "resnet"
    found = model.predict(photos / "cats").probabilities
    assert found.shape[1] == 2
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert len(answers.read_text().splitlines()) == 1 + len(found)
