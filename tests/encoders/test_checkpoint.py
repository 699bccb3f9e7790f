"""A folder is loaded whole or refused in a sentence; a hash follows the weights and nothing else."""

import contextlib
import json
import logging
import os
import pickle
import shutil
import warnings

import pytest
import torch
from checkpoints import picture, save_checkpoint
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

import modalign as ma
from modalign.core.errors import InputError
from modalign.encoders import checkpoint
from modalign.encoders.checkpoint import Checkpoint
from modalign.encoders.features.store import FeatureStore
from modalign.encoders.quiet import quiet


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refuse(folder, match):
    with pytest.raises(InputError, match=match) as caught:
        ma.load_encoder(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_missing_weight_is_refused_instead_of_random(checkpoint_copy):
    folder = checkpoint_copy("clip")
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refuse(folder, "1 are missing .'visual_projection.weight'")


def test_weights_of_another_size_are_refused(checkpoint_copy):
    folder = checkpoint_copy("clip")
    edit(folder / "config.json", projection_dim=25)
    refuse(folder, "cannot be loaded|are missing")


def test_only_safetensors_are_read(checkpoint_copy):
    folder = checkpoint_copy("clip")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refuse(folder, "only 'pytorch_model.bin', a pickle, which can run code")
    (folder / "pytorch_model.bin").unlink()
    refuse(folder, "no weights; put the file there")


def test_nothing_in_a_folder_is_ever_executed(checkpoint_copy, tmp_path):
    """Pickles and Python files beside sound weights are not touched, whatever the configs ask for."""
    folder, trap = checkpoint_copy("clip"), tmp_path / "sprung"

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(trap),)

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    (folder / "modeling_evil.py").write_text(f"import os; os.mkdir({str(trap)!r})")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        edit(folder / name, auto_map={"AutoModel": "modeling_evil.Evil", "AutoTokenizer": ["modeling_evil.Evil", None]})
    with contextlib.suppress(InputError):
        ma.load_encoder(folder, device="cpu").embed_texts(["a cat"])
    assert not trap.exists()


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda f: (f / "config.json").unlink(), "without a config.json"),
        (lambda f: (f / "config.json").write_text("{"), "Expected a JSON file"),
        (lambda f: (f / "config.json").write_text("[]"), "Expected a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "Expected a model_type"),
        (lambda f: edit(f / "config.json", model_type="telepathy"), "got model_type 'telepathy'"),
        (lambda f: edit(f / "config.json", model_type="bert"), "Expected an encoder of images|are missing"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 100), "cannot be loaded"),
        (lambda f: os.truncate(f / "model.safetensors", 5000), "cannot be loaded"),
        (lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
        (lambda f: edit(f / "preprocessor_config.json", crop_size=32), "belong to different checkpoints"),
        (
            lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}'),
            "b.safet",
        ),
    ],
)
def test_every_damage_has_its_sentence(damage, match, checkpoint_copy):
    folder = checkpoint_copy("clip")
    damage(folder)
    refuse(folder, match)


def test_shards_are_read_together(checkpoint_copy, checkpoints):
    folder = checkpoint_copy("dinov2")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, some in halves.items():
        save_file({name: weights[name] for name in some}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, some in halves.items() for name in some}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    whole, sharded = (ma.load_encoder(f, device="cpu") for f in (checkpoints("dinov2"), folder))
    images = [picture(0)]
    assert (whole.embed_images(images).vectors == sharded.embed_images(images).vectors).all()
    (folder / "model-00002-of-00002.safetensors").unlink()
    refuse(folder, "model-00002-of-00002.safetensors")


def test_half_precision_files_are_computed_in_float32(checkpoint_copy):
    folder = checkpoint_copy("clip")
    weights = {name: w.half() for name, w in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = ma.load_encoder(folder, device="cpu")
    assert encoder.spec.dtype == "float32"
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}


def test_without_an_image_processor_the_usual_one_with_a_warning(checkpoint_copy, checkpoints):
    folder = checkpoint_copy("clip")
    (folder / "preprocessor_config.json").unlink()
    with pytest.warns(UserWarning, match="has no preprocessor_config.json; images are prepared as is usual"):
        encoder = ma.load_encoder(folder, device="cpu")
    assert encoder.spec.fingerprint == ma.load_encoder(checkpoints("clip"), device="cpu").spec.fingerprint


def test_the_image_processor_may_lie_in_a_processor_config(checkpoint_copy, checkpoints):
    folder = checkpoint_copy("clip")
    content = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": content}))
    encoder = ma.load_encoder(folder, device="cpu")
    assert encoder.spec.fingerprint == ma.load_encoder(checkpoints("clip"), device="cpu").spec.fingerprint


def test_the_fingerprint_follows_weights_config_and_pixels_only(checkpoint_copy, tmp_path):
    folder = checkpoint_copy("clip")

    def fingerprint(**options):
        return ma.load_encoder(folder, device="cpu", **options).spec.fingerprint

    first = fingerprint()
    assert fingerprint(cache=False) == first
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert ma.load_encoder(moved, device="cpu").spec.fingerprint == first
    edit(folder / "config.json", transformers_version="0", _name_or_path="x", dtype="float16")
    assert fingerprint() == first
    seen = {first, fingerprint(dtype="bfloat16")}
    edit(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    seen.add(fingerprint())
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    edit(folder / "config.json", vision_config=vision | {"layer_norm_eps": 1e-3})
    seen.add(fingerprint())
    save_checkpoint(folder, "clip", seed=1)
    seen.add(fingerprint())
    assert len(seen) == 5


def test_weights_are_hashed_once_and_again_when_they_change(checkpoint_copy, tmp_path, monkeypatch):
    folder, store = checkpoint_copy("clip"), FeatureStore(tmp_path / "cache")
    weights = folder / "model.safetensors"
    os.utime(weights, ns=(0, 10**18 + 123))
    monkeypatch.setattr(checkpoint, "is_settled", lambda *_: True)  # its change time is just now
    hashed = []
    original = checkpoint._hash
    monkeypatch.setattr(checkpoint, "_hash", lambda path: (hashed.append(path.name), original(path))[1])
    first = Checkpoint.open(folder).weights_hash(store)
    assert Checkpoint.open(folder).weights_hash(store) == first
    assert hashed == ["model.safetensors"]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(0, 10**18 + 123))
    assert Checkpoint.open(folder).weights_hash(store) != first, "same size and time of modification, other change time"


def test_libraries_are_silent_and_keep_the_settings_of_the_user(checkpoints, capfd):
    transformers_logging.set_verbosity(logging.INFO)
    transformers_logging.enable_progress_bar()
    filters = list(warnings.filters)
    try:
        capfd.readouterr()
        ma.load_encoder(checkpoints("clip"), device="cpu").embed_texts(["a cat"])
        assert capfd.readouterr() == ("", "")
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
        assert warnings.filters == filters
        with pytest.raises(KeyError), quiet():
            raise KeyError
        assert transformers_logging.get_verbosity() == logging.INFO
    finally:
        transformers_logging.set_verbosity_warning()


def test_writing_to_the_file_does_not_change_a_loaded_network(checkpoint_copy):
    folder = checkpoint_copy("clip")
    encoder = ma.load_encoder(folder, device="cpu", cache=False)
    before = encoder.embed_images([picture(0)]).vectors
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\0" * (path.stat().st_size // 2))
    assert (encoder.embed_images([picture(0)]).vectors == before).all()
