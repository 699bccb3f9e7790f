"""The two architectures of the embedded pair, their tokenizer, and how they are written to a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_images import SIZE
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, Dinov2Config, Dinov2Model, PreTrainedModel

CONTEXT = 77
MEAN, STD = [0.45, 0.45, 0.45], [0.33, 0.33, 0.33]
START, END = "<|startoftext|>", "<|endoftext|>"
POSITION = 0.3  # initial spread of the position embeddings; with the usual 0.02 the positions are learned late
TOWER = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": SIZE, "patch_size": 8}


def tiny_tokenizer(sentences: Iterable[str], merges: int = 400) -> CLIPTokenizer:
    """CLIP's own tokenizer (lower-casing, byte-level pairs, `</w>`) with merges learned from `sentences`.

    Every byte is in the vocabulary with and without `</w>`, so any text in any script has an encoding.
    """
    blank = CLIPTokenizer(vocab={START: 0, END: 1})
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = blank.backend_tokenizer.normalizer
    learner.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    alphabet = sorted(ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merges,
        min_frequency=20,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(sentences, trainer)
    learned = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    words = alphabet + [c + "</w>" for c in alphabet] + ["".join(pair) for pair in learned]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*words, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=learned, model_max_length=CONTEXT)


def tiny_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP of transformers' own class: 32 x 32 pixels in patches of 8, two towers of width 128."""
    tower = {**TOWER, "intermediate_size": 3 * TOWER["hidden_size"], "hidden_act": "gelu"}
    text = {
        **{key: value for key, value in tower.items() if key not in {"image_size", "patch_size"}},
        "num_hidden_layers": 3,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=tower, projection_dim=128))
    torch.nn.init.normal_(model.vision_model.embeddings.position_embedding.weight, std=POSITION)
    return model


def tiny_vision() -> Dinov2Model:
    """An untrained DINOv2-style tower of the same size; its class token is the feature."""
    model = Dinov2Model(Dinov2Config(**TOWER, mlp_ratio=3, hidden_act="gelu"))
    torch.nn.init.normal_(model.embeddings.position_embeddings, std=POSITION)
    return model


def write_folder(folder: Path, model: PreTrainedModel, card: dict, tokenizer: CLIPTokenizer | None = None) -> None:
    """Config, half-precision safetensors (loaded as float32), preprocessing, tokenizer and card in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    model.config.dtype = torch.float32
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    write_card(folder, card)


def write_card(folder: Path, card: dict) -> None:
    """Replace the card of `folder`."""
    (folder / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
