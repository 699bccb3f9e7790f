"""The embedded pair: loads with transformers alone, is small, holds no pickle, and reads real digits unseen."""

import json
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, Dinov2Model

import modalign

WEIGHTS = Path(modalign.__file__).parent / "encoders" / "weights"
CLIP, VISION = WEIGHTS / "tiny", WEIGHTS / "tiny-vision"
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@cache
def clip():
    return CLIPModel.from_pretrained(CLIP).eval()


@cache
def digits():
    data = load_digits()
    images = [Image.fromarray((image * 255 / 16).astype(np.uint8)).convert("RGB") for image in data.images]
    return images, torch.from_numpy(data.target)


@cache
def digit_features(folder):
    pixels = AutoImageProcessor.from_pretrained(folder)(images=digits()[0], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        if folder == CLIP:
            features = clip().visual_projection(clip().vision_model(pixel_values=pixels).pooler_output)
        else:
            features = Dinov2Model.from_pretrained(folder).eval()(pixel_values=pixels).pooler_output
    return torch.nn.functional.normalize(features, dim=-1)


def sentence_features(sentences):
    tokens = AutoTokenizer.from_pretrained(CLIP)(sentences, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        features = clip().text_projection(clip().text_model(**tokens).pooler_output)
    return torch.nn.functional.normalize(features, dim=-1)


def test_together_at_most_8_megabytes_and_no_pickle():
    files = [path for folder in (CLIP, VISION) for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    assert {path.suffix for path in files} <= {".json", ".txt", ".safetensors"}


@pytest.mark.parametrize(("folder", "kind"), [(CLIP, CLIPModel), (VISION, Dinov2Model)])
def test_loads_completely_and_quickly_in_float32(folder, kind):
    start = time.perf_counter()
    model, info = kind.from_pretrained(folder, output_loading_info=True, local_files_only=True)
    assert time.perf_counter() - start < 5  # under 1 s on a quiet machine
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("folder", [CLIP, VISION])
def test_card_has_every_field(folder):
    card = json.loads((folder / "card.json").read_text())
    for field in ("name", "data", "training", "seed", "steps", "command", "licence", "accuracy", "digits"):
        assert card[field] not in (None, "", {}), field
    assert card["name"] == folder.name
    assert "never trained on" in card["digits"]
    assert str(Path.home()) not in json.dumps(card)


def test_logit_scale_is_a_logarithm_below_ln_100():
    assert 0 < clip().logit_scale.item() <= np.log(100) + 1e-3


def test_tokenizer_lower_cases_truncates_and_accepts_any_script():
    tokenizer = AutoTokenizer.from_pretrained(CLIP)
    assert tokenizer("A Photo of the digit SEVEN.").input_ids == tokenizer("a photo of the digit seven.").input_ids
    ids = tokenizer("word " * 200, truncation=True).input_ids
    assert len(ids) == tokenizer.model_max_length == clip().config.text_config.max_position_embeddings
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id == clip().config.text_config.eos_token_id
    assert tokenizer.unk_token_id not in tokenizer("Zażółć gęślą 猫 нуль 🎈").input_ids[1:-1]


def test_twenty_ordinary_words_fit_the_context():
    sentence = (
        "a low resolution black and white photo of a handwritten number seven that somebody wrote with a thick pen"
    )
    assert (
        len(AutoTokenizer.from_pretrained(CLIP)(sentence).input_ids) < clip().config.text_config.max_position_embeddings
    )


def test_padding_does_not_change_a_sentence():
    alone = sentence_features(["a red circle"])
    padded = sentence_features(["a red circle", "a photo of a white letter on a black background."])[:1]
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=0)


@pytest.mark.parametrize("template", ["a photo of the digit {}.", "a photo of a {}.", "{}"])
def test_zero_shot_on_real_digits(template):
    text = sentence_features([template.format(name) for name in NAMES])
    accuracy = ((digit_features(CLIP) @ text.T).argmax(1) == digits()[1]).float().mean().item()
    assert accuracy >= 0.75


def test_five_nearest_neighbors_of_the_vision_model():
    features, labels = digit_features(VISION), digits()[1]
    nearest = (features @ features.T).fill_diagonal_(-2).topk(5).indices
    votes = torch.nn.functional.one_hot(labels[nearest], 10).sum(1) + 0.1 * torch.nn.functional.one_hot(
        labels[nearest[:, 0]], 10
    )
    assert (votes.argmax(1) == labels).float().mean().item() >= 0.97


def test_sentences_decide_which_color_is_found():
    pictures = {}
    for color, rgb in {"red": (214, 34, 34), "blue": (36, 66, 216), "yellow": (240, 216, 40)}.items():
        picture = Image.new("RGB", (32, 32), (244, 244, 244))
        picture.paste(rgb, (7, 7, 25, 25))
        pictures[f"a {color} square"] = picture
    pixels = AutoImageProcessor.from_pretrained(CLIP)(images=list(pictures.values()), return_tensors="pt")
    with torch.inference_mode():
        features = clip().visual_projection(clip().vision_model(**pixels).pooler_output)
    assert (features @ sentence_features([*pictures]).T).argmax(1).tolist() == [0, 1, 2]
