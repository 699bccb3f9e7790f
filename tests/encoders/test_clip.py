"""Vision-language networks: equal to transformers' own path, exact where they take a short cut."""

import json
import warnings

import numpy as np
import pytest
import torch
from checkpoints import TINY, picture, save_checkpoint
from transformers import AutoModel, AutoTokenizer

import modalign as ma
from modalign.core.errors import InputError
from modalign.encoders.clip import pooled

KINDS = ["clip", "metaclip_2", "siglip", "siglip2"]
SENTENCES = ["a photo of a cat", "a dog", "the very old blue cat sleeping on the very old red sofa"]


def unit(x):
    return torch.nn.functional.normalize(x.float(), dim=-1)


def reference_inputs(encoder, images):
    prepared = [encoder.preprocessing.prepare(image) for image in images]
    return encoder.preprocessing.inputs(prepared, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_images_and_sentences_equal_transformers(kind, checkpoints):
    folder = checkpoints(kind)
    encoder = ma.load_encoder(folder, device="cpu")
    images = [picture(i, 60 + 9 * i, 70) for i in range(4)]
    features, text = encoder.embed_images(images), encoder.embed_texts(SENTENCES)

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    length = model.config.text_config.max_position_embeddings
    tokens = tokenizer(SENTENCES, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        image = unit(pooled(model.get_image_features(**reference_inputs(encoder, images))))
        # All positions of the context, which the short cut leaves out for causal towers.
        words = unit(pooled(model.get_text_features(input_ids=tokens["input_ids"])))
        scale = float(model.logit_scale.exp())
    torch.testing.assert_close(torch.tensor(features.vectors), image)
    torch.testing.assert_close(torch.tensor(text.vectors), words)
    assert encoder.logit_scale == pytest.approx(scale)
    assert features.spec == text.spec == encoder.spec
    assert encoder.spec.dim == features.vectors.shape[1] == text.vectors.shape[1]
    np.testing.assert_allclose(np.linalg.norm(features.vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["clip", "metaclip_2"])
def test_padding_after_the_end_of_text_never_influences_a_causal_tower(kind, checkpoints):
    """Hence running to the longest sentence is exact: also beside much longer ones, also with other padding."""
    encoder = ma.load_encoder(checkpoints(kind), device="cpu", cache=False)
    alone = encoder.embed_texts(["a dog"]).vectors
    beside = encoder.embed_texts(["a dog", "a photo of " + "the very old " * 3 + "sofa"]).vectors
    np.testing.assert_allclose(beside[:1], alone, atol=1e-6)
    ids = encoder.tokenizer(["a dog"])["input_ids"]
    with torch.inference_mode():
        for filler in (0, 5):
            padded = torch.tensor([ids[0] + [filler] * (77 - len(ids[0]))])
            np.testing.assert_allclose(unit(pooled(encoder.model.get_text_features(padded))), alone, atol=1e-6)


def test_tokens_lie_in_the_joint_space(checkpoints):
    encoder = ma.load_encoder(checkpoints("clip"), device="cpu", cache=False)
    images = [picture(i) for i in range(3)]
    features = encoder.embed_images(images, tokens=True)
    with torch.inference_mode():
        model = encoder.model
        hidden = model.vision_model(**reference_inputs(encoder, images)).last_hidden_state
        expected = unit(model.visual_projection(model.vision_model.post_layernorm(hidden[:, 1:])))
    torch.testing.assert_close(torch.tensor(features.tokens), expected)
    np.testing.assert_allclose(features.vectors, encoder.embed_images(images).vectors, atol=1e-6)


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_siglip_tokens_are_the_patches_before_pooling(kind, checkpoints):
    encoder = ma.load_encoder(checkpoints(kind), device="cpu", cache=False)
    features = encoder.embed_images([picture(0, 64, 64), picture(1, 120, 40)], tokens=True)
    np.testing.assert_allclose(
        features.vectors, encoder.embed_images([picture(0, 64, 64), picture(1, 120, 40)]).vectors, atol=1e-6
    )
    lengths = np.linalg.norm(features.tokens, axis=2)
    assert features.tokens.shape == (2, 16, 32)
    # NaFlex fills the last positions of a narrow picture with zeros; all others have unit length.
    assert set(np.round(lengths, 5).ravel()) <= ({1.0, 0.0} if kind == "siglip2" else {1.0})


def test_nested_sentences_give_zero_rows_and_each_is_computed_once(checkpoints, monkeypatch):
    encoder = ma.load_encoder(checkpoints("clip"), device="cpu")
    calls = []
    forward = encoder.model.get_text_features
    monkeypatch.setattr(
        encoder.model, "get_text_features", lambda **kw: (calls.append(len(kw["input_ids"])), forward(**kw))[1]
    )
    nested = [["a cat", "a blue cat"], ["a dog"], ["a cat", "a red cat", "a dog"]]
    text = encoder.embed_texts(nested, class_names=["cat", "dog", "both"])
    assert sum(calls) == 4
    assert text.vectors.shape == (3, 3, 24)
    assert text.class_names == ("cat", "dog", "both")
    assert text.sentences == tuple(map(tuple, nested))
    assert (text.vectors[0, 2] == 0).all()
    assert (text.vectors[1, 1:] == 0).all()
    flat = encoder.embed_texts(["a cat", "a dog", "a red cat"])
    np.testing.assert_array_equal(text.vectors[2], flat.vectors[[0, 2, 1]])
    assert flat.class_names == ("a cat", "a dog", "a red cat")
    assert sum(calls) == 4, "sentences are kept like images"


def test_the_tokenizer_decides_cached_sentences_but_not_images(checkpoint_copy):
    folder = checkpoint_copy("clip")
    before = ma.load_encoder(folder, device="cpu")
    vectors = before.embed_texts(["a cat"]).vectors.copy()
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    first, second = (before.tokenizer.convert_ids_to_tokens(i) for i in (before.tokenizer("a")["input_ids"][1], 5))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(content))
    after = ma.load_encoder(folder, device="cpu")
    assert before.spec == after.spec
    assert np.abs(after.embed_texts(["a cat"]).vectors - vectors).max() > 1e-3


def test_long_sentences_are_cut_with_a_count(checkpoints):
    encoder = ma.load_encoder(checkpoints("clip"), device="cpu", cache=False)
    long = "a very " * 200 + "old cat"
    with pytest.warns(UserWarning, match="1 of 2 sentences are longer than the 77 tokens"):
        text = encoder.embed_texts(["a cat", long])
    ids = encoder.tokenizer(long)["input_ids"]
    with torch.inference_mode():
        cut = torch.tensor([[*ids[:76], encoder.tokenizer.eos_token_id]])
        expected = unit(pooled(encoder.model.get_text_features(cut)))
    np.testing.assert_allclose(text.vectors[1:], expected, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.embed_texts(["a cat"])


@pytest.mark.parametrize(
    "texts",
    [
        "a cat",
        [],
        ["a cat", ""],
        [["a cat"], []],
        [["a cat"], "a dog"],
        ["a dog", ["a cat"]],
        [1, 2],
        None,
        [["a", " "]],
    ],
)
def test_what_is_not_sentences_is_refused(texts, checkpoints):
    encoder = ma.load_encoder(checkpoints("clip"), device="cpu", cache=False)
    with pytest.raises(InputError, match="sentence"):
        encoder.embed_texts(texts)


def test_wrong_number_of_class_names_is_refused(checkpoints):
    encoder = ma.load_encoder(checkpoints("clip"), device="cpu", cache=False)
    with pytest.raises(InputError, match="one class name for each of the 2"):
        encoder.embed_texts(["a", "b"], class_names=["a"])


def test_without_a_tokenizer_images_work_and_sentences_raise_with_what_is_missing(checkpoint_copy):
    folder = checkpoint_copy("clip")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    encoder = ma.load_encoder(folder, device="cpu")
    assert len(encoder.embed_images([picture(0)])) == 1
    with pytest.raises(InputError, match=r"Expected a tokenizer in .* got none; copy it"):
        encoder.embed_texts(["a cat"])


def test_a_tokenizer_of_another_checkpoint_is_refused(tmp_path):
    folder = save_checkpoint(
        tmp_path / "small", "clip", vocab_size=500, eos_token_id=499, bos_token_id=498, pad_token_id=499
    )
    encoder = ma.load_encoder(folder, device="cpu")
    with pytest.raises(InputError, match="at most 500 tokens"):
        encoder.embed_texts(["a cat"])


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_batches_do_not_change_vectors_beyond_rounding(size, checkpoints):
    encoder = ma.load_encoder(checkpoints("clip"), device="cpu", cache=False)
    images = [picture(i) for i in range(7)]
    reference = encoder.embed_images(images).vectors
    np.testing.assert_allclose(encoder.embed_images(images, batch_size=size).vectors, reference, atol=1e-6)
    order = np.random.default_rng(size).permutation(7)
    shuffled = encoder.embed_images([images[i] for i in order], batch_size=size).vectors
    np.testing.assert_allclose(shuffled, reference[order], atol=1e-6)


def test_half_precision_is_another_encoder_with_nearly_the_same_vectors(checkpoints):
    full = ma.load_encoder(checkpoints("clip"), device="cpu", dtype="float32")
    half = ma.load_encoder(checkpoints("clip"), device="cpu", dtype="bfloat16")
    assert (full.spec.dtype, half.spec.dtype) == ("float32", "bfloat16")
    assert full.spec.fingerprint != half.spec.fingerprint
    images = [picture(i) for i in range(4)]
    a, b = full.embed_images(images).vectors, half.embed_images(images).vectors
    assert b.dtype == np.float32
    assert not np.array_equal(a, b), "each has a table of its own"
    assert (a * b).sum(1).min() > 0.99
    assert {p.dtype for p in full.model.parameters()} == {torch.float32}


def test_the_embedded_clip_is_an_ordinary_checkpoint():
    embedded, folder = ma.load_encoder("tiny", device="cpu"), ma.load_encoder(TINY, device="cpu")
    assert (embedded.name, folder.name) == ("tiny", TINY.name)
    assert embedded.spec.fingerprint == folder.spec.fingerprint
