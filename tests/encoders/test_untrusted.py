"""A folder of unknown origin chooses numbers and never code, and is loaded or refused in bounded time."""

from __future__ import annotations

import json
import random
import shutil
import sys
from contextlib import suppress

import numpy as np
import pytest

import modalign as ma
from modalign.core.errors import InputError, ModalignError
from modalign.encoders import untrusted
from modalign.encoders.catalog import locate
from modalign.encoders.untrusted import KINDS, refusing, without_choices

PICTURES = [np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8) for i in range(2)]
SENTENCES = ["a cat", "two dogs"]
HOSTILE = {
    "attn_implementation": "org/kernel",
    "_attn_implementation": "org/kernel",
    "_attn_implementation_internal": "org/kernel",
    "experts_implementation": "org/kernel",
    "use_kernels": True,
    "kernel_config": {"kernels": "org/kernel"},
    "auto_map": {"AutoModel": "org/code--modeling.Model", "AutoTokenizer": ["org/code--t.T", None]},
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "custom_pipelines": {"x": {"impl": "org/code.Pipeline"}},
    "transformers_weights": "pytorch_model.bin",
    "backbone": "org/x",
    "use_pretrained_backbone": True,
    "torch_dtype": "float16",
    "dtype": "float16",
    "fusion_config": {"patch_embeddings": True},
    "_name_or_path": "org/x",
    "output_attentions": True,
    "return_dict": False,
    "torchscript": True,
}


def load(folder):
    return ma.load_encoder(folder, cache=False, device="cpu", dtype="float32")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_entries_that_choose_are_dropped_at_every_depth():
    config = {"hidden_size": 8, "vision_config": {"layers": {"x": 1}}}
    planted = HOSTILE | config | {"vision_config": {"layers": {"x": 1} | HOSTILE} | HOSTILE}
    assert without_choices(planted) == config


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_a_config_that_chooses_changes_no_vector(kind, checkpoint_copy):
    folder = checkpoint_copy(kind)
    before = load(folder).embed_images(PICTURES).vectors
    config = json.loads((folder / "config.json").read_text())
    nested = {key: value | HOSTILE for key, value in config.items() if isinstance(value, dict)}
    edit(folder / "config.json", **nested, **HOSTILE)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/x"}))
    (folder / "generation_config.json").write_text(json.dumps(HOSTILE))
    encoder = load(folder)
    np.testing.assert_array_equal(encoder.embed_images(PICTURES).vectors, before)
    assert getattr(encoder.model.config, "_attn_implementation", "sdpa") == "sdpa"  # which a CLIP of our own has not


@pytest.mark.parametrize("kind", ["mamba", "timm_wrapper", "vision-text-dual-encoder", "detr", "bert", "../x", ""])
def test_other_kinds_of_networks_are_refused_before_their_code_is_imported(kind, checkpoint_copy):
    folder = checkpoint_copy("clip")
    edit(folder / "config.json", model_type=kind)
    with pytest.raises(InputError, match="of a supported kind"):
        load(folder)
    assert f"transformers.models.{kind}.modeling_{kind}" not in sys.modules or kind == "bert"


def test_supported_kinds_exist():
    from transformers import CONFIG_MAPPING, MODEL_MAPPING

    assert all(CONFIG_MAPPING[kind] in MODEL_MAPPING for kind in KINDS)


@pytest.mark.parametrize(
    "part", [{"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, {"model": {"type": "none"}}]
)
def test_a_parser_that_panics_is_one_sentence(part, tmp_path, capfd):
    folder = tmp_path / "tiny"
    shutil.copytree(locate("tiny", fetch=False), folder)
    edit(folder / "tokenizer.json", **part)
    with pytest.raises(InputError, match=r"The tokenizer in '.*tiny' cannot be loaded"):
        load(folder).embed_texts(SENTENCES)
    assert capfd.readouterr().err == ""


def test_a_tokenizer_chooses_no_code_and_no_files(checkpoint_copy, tmp_path):
    folder = checkpoint_copy("clip")
    before = load(folder).embed_texts(SENTENCES).vectors
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text("{}")
    edit(folder / "tokenizer_config.json", **HOSTILE, vocab_file=str(vocabulary), tokenizer_file=str(vocabulary))
    np.testing.assert_array_equal(load(folder).embed_texts(SENTENCES).vectors, before)
    for name in ("CLIPModel", "AutoModel", "Trainer", "pipeline"):
        edit(folder / "tokenizer_config.json", tokenizer_class=name)
        with pytest.raises(InputError, match="name of a tokenizer"):
            load(folder).embed_texts(SENTENCES)


def test_files_larger_than_any_real_one_are_refused(checkpoint_copy, monkeypatch):
    folder = checkpoint_copy("clip")
    encoder = load(folder)
    monkeypatch.setattr(untrusted, "_TOKENIZER_LIMIT", 100)
    with pytest.raises(InputError, match=r"a file of a tokenizer of at most .* is larger"):
        encoder.embed_texts(SENTENCES)
    monkeypatch.setattr(untrusted, "_CONFIG_LIMIT", 100)
    with pytest.raises(InputError, match=r"config.json' is larger"):
        load(folder)


def test_a_parser_that_panics_is_refused_and_an_interruption_is_not():
    class PanicException(BaseException):
        pass

    with pytest.raises(InputError, match="It fails: no entry found"), refusing("It fails"):
        raise PanicException("no entry\n found")
    for error in (KeyboardInterrupt, MemoryError, SystemExit):
        with pytest.raises(error), refusing("It fails"):
            raise error


@pytest.mark.parametrize("value", [10**6, 10**18, [2, 10**9]])
def test_more_layers_than_tensors_are_refused_before_they_are_made(value, checkpoint_copy):
    folder = checkpoint_copy("dinov2")
    edit(folder / "config.json", num_hidden_layers=value)
    with pytest.raises(InputError, match="number of tensors in the weights"):
        load(folder)


VALUES = [None, True, 0, -1, 1, 3, 10**6, 2**62, 0.5, -1.5, 1e308, "", "a/b", [], [1], [0] * 3, {}, {"x": 1}]


def places(content, path=()):
    """All places of a JSON value but its root."""
    children = content.items() if isinstance(content, dict) else enumerate(content[:5])
    for key, value in children:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


@pytest.mark.parametrize("seed", range(30))
def test_a_changed_description_is_used_or_refused_in_a_sentence(seed, checkpoints, tmp_path):
    rng = random.Random(seed)
    folder = shutil.copytree(checkpoints(rng.choice(["clip", "siglip2", "dinov2"])), tmp_path / "encoder")
    path = rng.choice(sorted(p for p in folder.glob("*.json") if p.name != "vocab.json"))
    content = json.loads(path.read_text())
    place = rng.choice(list(places(content)))
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    if rng.random() < 0.2 and isinstance(parent, dict):
        del parent[place[-1]]
    else:
        parent[place[-1]] = rng.choice(VALUES)
    path.write_text(json.dumps(content))
    with suppress(ModalignError):
        encoder = load(folder)
        assert np.isfinite(encoder.embed_images(PICTURES).vectors).all()
        assert not encoder.has_text or np.isfinite(encoder.embed_texts(SENTENCES).vectors).all()
