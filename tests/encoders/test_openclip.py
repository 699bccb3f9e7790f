"""open_clip checkpoints: equal to CLIP written out literally, and refused in a sentence where they are others."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoints import picture, save_checkpoint
from literal_clip import CONFIGS, PIXELS, literal_clip, save_open_clip
from PIL import Image
from safetensors.torch import load_file, save_file

import modalign as ma
from modalign.core.errors import InputError
from modalign.encoders.catalog import is_open_clip
from modalign.encoders.openclip.openclip_checkpoint import OpenClipCheckpoint
from modalign.encoders.openclip.openclip_config import translated
from modalign.encoders.precision import _agreement, _images
from modalign.encoders.towers.convolutional import ResNetTower, vision_tower
from modalign.encoders.towers.vision_tower import TextTower, VisionTower

SENTENCES = ["a photo of a cat", "a dog", "the very old blue cat sleeping on the very old red sofa"]
KINDS = list(CONFIGS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: save_open_clip(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture
def copied(folders, tmp_path):
    return lambda kind: shutil.copytree(folders[kind], tmp_path / "copy")


def load(folder, **options):
    return ma.load_encoder(folder, device="cpu", **{"cache": False, **options})


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def edited(folder, part="model_cfg", **changes):
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text())
    where = content if part is None else content[part] if part in content else content["model_cfg"][part]
    where.update(changes)
    path.write_text(json.dumps(content))
    return folder


def pixels_of(encoder, images):
    prepared = [encoder.preprocessing.prepare(image) for image in images]
    return encoder.preprocessing.inputs(prepared, torch.device("cpu"), torch.float32)["pixel_values"]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_images_and_sentences_equal_the_literal_network(kind, folders):
    encoder, literal = load(folders[kind]), literal_clip(kind)
    images = [picture(i, 60 + 9 * i, 70) for i in range(3)]
    expected = literal.visual(pixels_of(encoder, images))
    assert expected.std(dim=0).mean() > 1e-3, "images must differ, or anything would be equal"
    np.testing.assert_allclose(encoder.embed_images(images).vectors, unit(expected), atol=1e-5)
    raw = encoder.model.get_image_features(pixels_of(encoder, images))
    torch.testing.assert_close(getattr(raw, "pooler_output", raw), expected, atol=1e-5, rtol=1e-5)

    ids = encoder.tokenizer(SENTENCES)["input_ids"]
    padded = torch.tensor([row + [0] * (77 - len(row)) for row in ids])
    np.testing.assert_allclose(encoder.embed_texts(SENTENCES).vectors, unit(literal.sentences(padded)), atol=1e-5)
    assert encoder.logit_scale == pytest.approx(float(literal.logit_scale.exp()))


@torch.no_grad()
def test_attention_pooling_answers_at_every_position(folders):
    encoder, literal = load(folders["resnet"]), literal_clip("resnet")
    images = [picture(i, 64, 64) for i in range(2)]
    maps = literal.visual.map(pixels_of(encoder, images))
    expected = torch.stack([torch.stack([literal.visual.attnpool.one(m, at) for at in range(5)]) for m in maps])
    features = encoder.embed_images(images, tokens=True)
    np.testing.assert_allclose(features.tokens, unit(expected[:, 1:]), atol=1e-5)
    np.testing.assert_allclose(features.vectors, unit(expected[:, 0]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_opened_towers_give_what_the_encoder_gives(kind, folders):
    encoder = load(folders[kind])
    text, vision = TextTower(encoder), vision_tower(encoder)
    assert type(vision) is (ResNetTower if kind == "resnet" else VisionTower)
    images = [picture(i) for i in range(3)]
    seen = vision(pixels_of(encoder, images), tokens=True)
    features = encoder.embed_images(images, tokens=True)
    np.testing.assert_allclose(unit(seen.pooled[0].detach()), features.vectors, atol=1e-5)
    assert seen.tokens.shape == (1, 3, 1 + vision.patches, vision.dim)
    torch.testing.assert_close(vision(pixels_of(encoder, images)).pooled, seen.pooled, atol=1e-5, rtol=1e-5)
    words = text(text.tokenize(SENTENCES)).pooled[0].detach()
    np.testing.assert_allclose(unit(words), encoder.embed_texts(SENTENCES).vectors, atol=1e-5)


def test_a_resnet_has_no_place_for_prompts_and_updates(folders):
    vision = vision_tower(load(folders["resnet"]))
    pixels = torch.zeros(1, 3, 64, 64)
    attempts = [
        lambda: vision(pixels, [torch.zeros(2, 8)]),
        lambda: vision.width,
        lambda: vision.depth,
        vision.norms,
        vision.maps,
        lambda: vision.with_updates({"0_q": torch.zeros(2, 2)}),
    ]
    for attempt in attempts:
        with pytest.raises(InputError, match="a ResNet, which has no place for visual prompts or updates"):
            attempt()
    with pytest.raises(InputError, match=r"pixels of shape \(B, 3, 64, 64\), got \(1, 3, 32, 32\)"):
        vision(pixels[:, :, :32, :32])


def test_loading_twice_gives_one_encoder_and_what_decides_a_vector_gives_another(folders, copied):
    first, again = load(folders["resnet"]), load(folders["resnet"])
    assert first.spec == again.spec
    images = [picture(0)]
    assert (first.embed_images(images).vectors == again.embed_images(images).vectors).all()
    folder = copied("resnet")
    same = load(edited(folder, "vision_cfg", patch_dropout=0.5, output_tokens=True)).spec.fingerprint
    assert same == first.spec.fingerprint, "what only training goes by"
    prints = {same}
    prints.add(load(edited(folder, quick_gelu=False)).spec.fingerprint)
    prints.add(load(edited(folder, "preprocess_cfg", resize_mode="squash")).spec.fingerprint)
    tensors = load_file(folder / "open_clip_model.safetensors")
    tensors["visual.layer2.1.bn3.running_mean"][0] += 1
    save_file(tensors, folder / "open_clip_model.safetensors")
    prints.add(load(folder).spec.fingerprint)
    assert len(prints) == 4


def test_half_precision_and_idle_tensors(folders, copied):
    folder = copied("resnet")
    tensors = load_file(folder / "open_clip_model.safetensors")
    halves = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    halves |= {"logit_bias": torch.tensor(-10.0), "logit_scale": halves["logit_scale"][None]}
    halves["input_resolution"] = torch.tensor(64)
    save_file(halves, folder / "open_clip_model.safetensors")
    encoder = load(folder)
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}
    images = [picture(i) for i in range(3)]
    cosines = (encoder.embed_images(images).vectors * load(folders["resnet"]).embed_images(images).vectors).sum(axis=1)
    assert cosines.min() > 0.999


def test_half_precision_agrees_as_the_probe_measures_it(folders):
    encoder = load(folders["resnet"])
    assert _agreement(encoder, encoder.cast(torch.bfloat16), _images(encoder)) > 0.99


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda t: t.pop("visual.layer3.0.downsample.1.running_var"),
            r"expected 'visual.layer3.0.downsample.1.running_var' \(128,\), got none",
        ),
        (
            lambda t: t.update({"visual.conv2.weight": torch.zeros(4, 4, 1, 1)}),
            r"'visual.conv2.weight' \(4, 4, 3, 3\), got \(4, 4, 1, 1\)",
        ),
        (
            lambda t: t.update({"transformer.resblocks.1.attn.in_proj_weight": torch.zeros(96, 33)}),
            r"'transformer.resblocks.1.attn.in_proj_weight' \(96, 32\), got \(96, 33\)",
        ),
        (lambda t: t.update({"visual.extra": torch.zeros(3)}), r"no 'visual.extra', got \(3,\)"),
        (lambda t: [t.pop(n) for n in list(t) if n.startswith("visual.attnpool")], r"and 6 more"),
    ],
)
def test_other_tensors_are_refused_with_names_and_shapes(change, match, copied):
    folder = copied("resnet")
    tensors = load_file(folder / "open_clip_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "open_clip_model.safetensors")
    with pytest.raises(InputError, match=match) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "change", "match"),
    [
        (
            "vision_cfg",
            {"timm_model_name": "vit_base_patch16_siglip_224"},
            "vision_cfg with timm_model_name = 'vit_base",
        ),
        ("vision_cfg", {"pool_type": "avg"}, "vision_cfg with pool_type = 'avg'"),
        ("vision_cfg", {"norm_kwargs": {"eps": 1e-6}}, "vision_cfg with norm_kwargs"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "text_cfg with hf_model_name = 'roberta-base'"),
        ("text_cfg", {"no_causal_mask": True}, "no_causal_mask"),
        (None, {"model_cfg": None}, "Expected the objects model_cfg and preprocess_cfg"),
        ("model_cfg", {"multimodal_cfg": {"layers": 3}}, "model_cfg with multimodal_cfg"),
        ("model_cfg", {"custom_text": True}, "model_cfg with custom_text = True"),
        ("model_cfg", {"text_cfg": None}, "Expected text_cfg as an object"),
        ("model_cfg", {"embed_dim": "24"}, "Expected embed_dim as an integer from 1 to"),
        ("vision_cfg", {"layers": [1, 2, 1]}, "Expected four layers"),
        ("vision_cfg", {"layers": [10**6, 2, 1, 1]}, "Expected layers of at most"),
        ("vision_cfg", {"image_size": 48}, "Expected an image_size that 32 divides"),
        ("vision_cfg", {"image_size": [64, 96]}, "Expected image_size as an integer"),
        ("text_cfg", {"layers": 10**6}, "Expected num_hidden_layers of at most"),
        ("text_cfg", {"heads": 3}, "a width that 3 heads divide"),
        ("text_cfg", {"mlp_ratio": "4"}, "Expected mlp_ratio as a number"),
        ("text_cfg", {"width": 64}, r"'token_embedding.weight' \(789, 64\), got \(789, 32\)"),
        ("preprocess_cfg", {"resize_mode": "longest"}, "Expected resize_mode 'shortest' or 'squash'"),
        ("preprocess_cfg", {"interpolation": "nearest"}, "interpolation 'bicubic' or 'bilinear'"),
        ("preprocess_cfg", {"mean": 0.5}, "Expected the numbers of an image processor"),
    ],
)
def test_other_configurations_are_refused(part, change, match, copied):
    with pytest.raises(InputError, match=match) as caught:
        load(edited(copied("resnet"), part, **change))
    assert "\n" not in str(caught.value)


ODD = [None, True, 0, -1, 2**40, 1.5, float("nan"), 1e300, "x", "", [], [1], [-1, -1], [[]], {}, {"a": 1}]
PLACES = [
    *(("model_cfg", key) for key in CONFIGS["resnet"]),
    *(("vision_cfg", key) for key in (*CONFIGS["resnet"]["vision_cfg"], "head_width")),
    *(("text_cfg", key) for key in (*CONFIGS["resnet"]["text_cfg"], "mlp_ratio")),
    *(("preprocess_cfg", key) for key in PIXELS),
]


@pytest.mark.parametrize(("part", "key"), PLACES)
def test_whatever_stands_in_an_entry_it_is_read_or_refused_in_a_sentence(part, key, copied):
    folder = copied("resnet")
    usual = OpenClipCheckpoint.open(folder)
    before = (folder / "open_clip_config.json").read_text()
    for value in ODD:
        (folder / "open_clip_config.json").write_text(before)
        edited(folder, part, **{key: value})
        refused = ""
        try:
            checkpoint = OpenClipCheckpoint.open(folder)
            checkpoint.preprocessing()
            if checkpoint.config != usual.config:
                checkpoint.load()
        except InputError as error:
            refused = str(error)
        assert "\n" not in refused
        assert len(refused) < 700


def test_pickles_and_missing_weights_are_refused(copied):
    folder = copied("vit")
    torch.save({}, folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"Expected open_clip_model.safetensors .* only 'open_clip_pytorch_model.bin', a pi"
    ):
        load(folder)
    (folder / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="no weights; put the file there"):
        load(folder)


def test_without_a_tokenizer_images_work_and_sentences_raise_with_the_missing_file(tmp_path):
    encoder = load(save_open_clip(tmp_path / "bare", "resnet", tokenizer=False))
    assert len(encoder.embed_images([picture(0)])) == 1
    with pytest.raises(
        InputError, match=r"Expected a tokenizer in .* \(tokenizer.json, or vocab.json and merges.txt\)"
    ):
        encoder.embed_texts(["a cat"])


def test_the_configuration_has_the_preprocessing(copied):
    folder = copied("vit")
    usual = load(folder).preprocessing
    assert (usual.resize, usual.size, usual.crop, usual.resample) == ("short", (64, 64), (64, 64), 3)
    assert list(usual.mean) == PIXELS["mean"]
    edited(folder, "preprocess_cfg", resize_mode="squash", interpolation="bilinear", mean=[0.5] * 3, size=999)
    other = load(folder).preprocessing
    assert (other.resize, other.size, other.crop, other.resample) == ("exact", (64, 64), None, 2)
    assert other.mean == (0.5, 0.5, 0.5)
    edited(folder, None, preprocess_cfg=None)
    assert load(folder).preprocessing == usual, "what open_clip takes where nothing is said"


@pytest.mark.parametrize(
    ("width", "begins"), [(64, 0), (65, 0), (66, 1), (67, 2), (68, 2), (69, 2), (70, 3), (71, 4), (72, 4)]
)
def test_a_crop_begins_where_torchvision_begins_it(width, begins, folders):
    """At the even pixel of two that are equally near to the center, which transformers' own never does."""
    preprocessing = load(folders["vit"]).preprocessing
    columns = np.arange(width, dtype=np.uint8)
    image = Image.fromarray(np.broadcast_to(columns[None, :, None], (64, width, 3)).copy())
    assert preprocessing.prepare(image)[0, 0, 0] == begins
    assert replace(preprocessing, half="down").prepare(image)[0, 0, 0] == (width - 64) // 2


def test_a_folder_with_both_layouts_is_read_as_hugging_faces(tmp_path, folders):
    folder = save_checkpoint(tmp_path / "both", "clip")
    alone = load(folder).spec.fingerprint
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        shutil.copy(folders["vit"] / name, folder / name)
    assert load(folder).spec.fingerprint == alone
    (folder / "model.safetensors").unlink()
    assert is_open_clip(folder)
    (folder / "config.json").write_text('{"architecture": "vit_base_patch32_clip_224"}')
    (folder / "model.safetensors").write_bytes(b"timm's own weights of the image tower")
    assert load(folder).spec.fingerprint == load(folders["vit"]).spec.fingerprint


def test_sizes_of_the_published_resnets(tmp_path):
    """Of the table of the paper: heads of the attention pooling and width of its input."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    for width, size, heads in ((64, 224, 32), (80, 288, 40), (96, 384, 48), (128, 448, 64)):
        vision = {"image_size": size, "layers": [3, 4, 6, 3], "width": width, "patch_size": None}
        found = translated({"embed_dim": 640, "vision_cfg": vision, "text_cfg": text}, tmp_path)["vision_config"]
        assert (found["heads"], found["image_size"], found["width"]) == (heads, size, width)
