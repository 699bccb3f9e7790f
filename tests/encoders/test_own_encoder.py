"""The encoder that contributors read as an example is one, and the doctor names the encoders of this machine."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoints import picture
from literal_clip import save_open_clip

import modalign as ma
from modalign.cli.doctor import examine
from modalign.encoders import find_encoder
from modalign.encoders.registry import OTHER_ENCODERS

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def small_net():
    """The function of the example, registered."""
    found = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    example: dict = {"__name__": "small_net"}
    exec(next(block for block in found if "class Pooled(Encoder)" in block), example)
    ma.register_encoder("small_net", example["small_net"])
    yield
    OTHER_ENCODERS.registered.clear()


def test_the_example_of_an_encoder_works_from_images_to_a_saved_model(small_net, photos, tmp_path):
    encoder = ma.load_encoder("small_net", device="cpu")
    features = encoder.embed_images([picture(0), picture(1)], tokens=True)
    assert features.vectors.shape == (2, 64)
    assert features.tokens.shape == (2, 15 * 15, 64)
    model = ma.adapt(photos, encoder="small_net", method="linear_probe", shots=4)
    again = ma.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(photos).probabilities, model.predict(photos).probabilities)


def test_an_open_clip_folder_has_a_name_of_its_own(tmp_path):
    ma.register_encoder("ours", save_open_clip(tmp_path / "vit", "vit"))
    try:
        assert ma.load_encoder("ours", device="cpu").name == "ours"
    finally:
        OTHER_ENCODERS.registered.clear()


def test_the_doctor_names_what_was_downloaded(tmp_path, monkeypatch, no_network):
    """As the hub's client lays it down; it is then loaded without a network, by its short name too."""
    repository = tmp_path / "hub" / "models--timm--resnet50_clip.openai"
    save_open_clip(repository / "snapshots" / "abc", "resnet")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = next(check.found for check in examine() if check.what == "encoders")
    assert found.startswith("tiny, tiny-vision, tiny-scenes, timm/resnet50_clip.openai on this machine")
    spec = ma.load_encoder(repository / "snapshots" / "abc", cache=False).spec
    for name in ("RN50", "timm/resnet50_clip.openai", "hf-hub:timm/resnet50_clip.openai"):
        assert find_encoder(replace(spec, name=name), cache=False).spec.fingerprint == spec.fingerprint
