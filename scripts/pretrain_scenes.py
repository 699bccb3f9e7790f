"""Train the image tower of `tiny` further on scenes of several drawings, for patch features that identify objects.

    python scripts/pretrain_scenes.py --out src/modalign/encoders/weights

writes `tiny-scenes/` there: the architecture and the frozen text tower of `tiny`, and an image tower of which each
patch is classified as the drawing that covers most of it, among the names of all drawings, by the value path of the
last layer (`maskclip`). The class token is held to that of `tiny` on whole pictures, so that classification stays.

Scenes are composed for each step by `tiny_scenes.py` from drawings that are rendered once. Validation scenes are of
other drawings. The digits of scikit-learn are not read here; `measure_tiny.py` and `bench/segmentation.py` do.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pretrain_tiny import distort, fonts, normalize, rendered_pool, train
from safetensors.torch import save_file
from tiny_images import DIGIT_NAMES, NAMES
from tiny_models import write_card
from tiny_scenes import IGNORED, glyph_windows, mosaic_windows, patch_labels
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPModel

from modalign.data.mosaics import SENTENCES

HELD_OUT, HELD_OUT_PICTURES = 20_260, 4_000
NAMED = ("seed", "images", "rendered", "held", "steps", "windows", "pictures", "mosaics")
NAMED += ("rate", "scale", "hold", "distortion")
TOWER = "vision_model."


@torch.no_grad()
def name_vectors(model: CLIPModel, folder: Path) -> Tensor:
    """(names, d) unit text vectors, each the mean of a few sentences; letters are called "letter a"."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = [f"letter {name}" if len(name) == 1 else name for name in NAMES]
    tokens = tokenizer([s.format(w) for w in words for s in SENTENCES], padding=True, return_tensors="pt")
    vectors = F.normalize(model.text_projection(model.text_model(**tokens).pooler_output), dim=-1)
    return F.normalize(vectors.unflatten(0, (len(words), -1)).mean(1), dim=-1)


def linear(x: Tensor, *maps: nn.Linear) -> Tensor:
    """Maps side by side, in bfloat16: five times as fast as in float32 on processors with tiles for it."""
    weight, bias = (torch.cat([getattr(one, part) for one in maps]).bfloat16() for part in ("weight", "bias"))
    return F.linear(x.bfloat16(), weight, bias)


def layer_of(layer: nn.Module, x: Tensor) -> Tensor:
    """One layer of the tower (B, T, width), in float32 outside of its products."""
    attention, mlp = layer.self_attn, layer.mlp
    maps = attention.q_proj, attention.k_proj, attention.v_proj
    q, k, v = linear(layer.layer_norm1(x), *maps).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = (attention.scale * q @ k.mT).softmax(-1) @ v  # faster than the fused attention, which is slow in bfloat16
    x = x + linear(mixed.transpose(1, 2).flatten(2), attention.out_proj)
    return x + linear(F.gelu(linear(layer.layer_norm2(x), mlp.fc1)), mlp.fc2)


def before_last(model: CLIPModel, pixels: Tensor) -> Tensor:
    """(B, 1 + patches, width) input of the last layer."""
    vision = model.vision_model
    x = vision.pre_layrnorm(vision.embeddings(normalize(pixels)))
    for layer in vision.encoder.layers[:-1]:
        x = layer_of(layer, x)
    return x


def patch_vectors(model: CLIPModel, x: Tensor) -> Tensor:
    """(B, patches, d) unit vectors of the value path: no attention, residual or MLP in the last layer."""
    last = model.vision_model.encoder.layers[-1]
    values = linear(linear(last.layer_norm1(x[:, 1:]), last.self_attn.v_proj), last.self_attn.out_proj)
    return projected(model, values.float())


def class_vectors(model: CLIPModel, x: Tensor) -> Tensor:
    """(B, d) unit image vectors."""
    return projected(model, layer_of(model.vision_model.encoder.layers[-1], x)[:, 0])


def projected(model: CLIPModel, x: Tensor) -> Tensor:
    """Unit vectors in the space of the sentences."""
    return F.normalize(model.visual_projection(model.vision_model.post_layernorm(x)), dim=-1)


def as_pixels(pictures: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) as (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def rendered_windows(
    pool: tuple[np.ndarray, np.ndarray], count: int, mosaics: float, rng: np.random.Generator
) -> tuple[np.ndarray, Tensor]:
    """Windows (n, 32, 32, 3) of scenes of drawings and of mosaics, and the labels of their patches."""
    few = round(mosaics * count)
    parts = [glyph_windows(*pool, count - few, rng), mosaic_windows(few, rng)]
    return np.concatenate([pictures for pictures, _ in parts]), torch.cat([patch_labels(masks) for _, masks in parts])


@torch.no_grad()
def validate(model: CLIPModel, text: Tensor, held: dict) -> str:
    """Accuracy (%) of patches by kind of drawing and of whole digits, and cosines with the class token of `tiny`."""
    x = torch.cat([before_last(model, part) for part in held["windows"].split(256)])
    scores, labels = patch_vectors(model, x) @ text.T, held["labels"]
    accuracies = []
    for names in (range(10), range(10, 48), sorted({n for n in labels.unique().tolist() if 48 <= n < IGNORED})):
        names = torch.tensor(list(names))
        rows = torch.isin(labels, names)
        accuracies.append(f"{100 * (names[scores[rows][:, names].argmax(1)] == labels[rows]).float().mean():.1f}")
    found = class_vectors(model, before_last(model, held["pictures"]))
    digits = held["digits"]
    hits = (found[digits >= 0] @ text[: len(DIGIT_NAMES)].T).argmax(1) == digits[digits >= 0]
    cosine = (found * held["vectors"]).sum(1)
    return (
        f"patches: digits {accuracies[0]} letters and shapes {accuracies[1]} textures {accuracies[2]} | class token: "
        f"digits {100 * hits.float().mean():.1f} cosine {cosine.mean():.4f} (least {cosine.min():.3f})"
    )


@torch.no_grad()
def held_out(model: CLIPModel, args: argparse.Namespace) -> dict:
    """Windows and whole pictures of drawings that training does not see."""
    pool, rng = rendered_pool(HELD_OUT, HELD_OUT_PICTURES, args.workers), np.random.default_rng(HELD_OUT)
    pictures, labels = rendered_windows(pool, 768, 0.33, rng)
    whole, facts = as_pixels(pool[0][:512]), pool[1][:512]
    return {
        "windows": as_pixels(pictures),
        "labels": labels,
        "pictures": whole,
        "vectors": class_vectors(model, before_last(model, whole)),
        "digits": torch.from_numpy(np.where(facts[:, 0] == 0, facts[:, 1], -1)),
    }


def train_scenes(args: argparse.Namespace) -> CLIPModel:
    """The model with its image tower trained."""
    model = CLIPModel.from_pretrained(args.out / "tiny").float()
    model.requires_grad_(False)
    text, scale = name_vectors(model, args.out / "tiny"), args.scale
    held = held_out(model, args)
    rng, generator = np.random.default_rng([args.seed, 3]), torch.Generator().manual_seed(args.seed)
    images, facts = rendered_pool(args.seed, args.images, args.workers)
    scenes, labels = rendered_windows((images, facts), args.rendered, args.mosaics, rng)
    print(f"{len(scenes)} windows of scenes", flush=True)
    whole, names = as_pixels(images[: args.held]), torch.from_numpy(facts[: args.held, 1])
    with torch.no_grad():
        wanted = torch.cat([class_vectors(model, before_last(model, part)) for part in whole.split(512)])
    print("start  ", validate(model, text, held), flush=True)
    model.vision_model.requires_grad_(True)
    step = 0

    def loss_of_step() -> list[Tensor]:
        nonlocal step
        step += 1
        some = rng.choice(len(scenes), args.windows, replace=False)
        rows = rng.choice(len(whole), args.pictures, replace=False)
        windows = distort(as_pixels(scenes[some]), args.distortion, generator)
        x = before_last(model, torch.cat([windows, whole[rows]]))
        scores = scale * patch_vectors(model, x) @ text.T
        known = torch.cat([labels[some], names[rows, None].expand(-1, labels.shape[1])])
        dense = F.cross_entropy(scores.flatten(0, 1), known.flatten(), ignore_index=IGNORED)
        held_loss = 1 - (class_vectors(model, x[args.windows :]) * wanted[rows]).sum(1).mean()
        if step % 200 == 0:
            print("       ", validate(model, text, held), flush=True)
        return [dense, args.hold * held_loss]

    model.train()
    model = train(model, loss_of_step, args.steps, args.rate, "scenes")
    print("average", validate(model, text, held), flush=True)
    return model


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/modalign/encoders/weights"), help="folder of tiny")
    parser.add_argument("--seed", type=int, default=2_026, help="of the drawings and the scenes")
    parser.add_argument("--images", type=int, default=60_000, help="how many drawings to render")
    parser.add_argument("--rendered", type=int, default=48_000, help="how many windows of scenes to render")
    parser.add_argument("--held", type=int, default=20_000, help="of how many drawings the class token is held")
    parser.add_argument("--steps", type=int, default=2_000, help="steps")
    parser.add_argument("--windows", type=int, default=128, help="windows of scenes per step")
    parser.add_argument("--pictures", type=int, default=40, help="whole pictures per step, whose class token is held")
    parser.add_argument("--mosaics", type=float, default=0.15, help="share of the windows that are of mosaics")
    parser.add_argument("--rate", type=float, default=1e-2, help="peak learning rate of Muon; AdamW has an eighth")
    parser.add_argument("--scale", type=float, default=17.2, help="factor of the cosines in the softmax over the names")
    parser.add_argument("--hold", type=float, default=30.0, help="weight of 1 − cosine of the class token")
    parser.add_argument("--distortion", type=float, default=0.4, help="strength of the distortion of windows")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--threads", type=int, default=1, help="threads that train")
    parser.add_argument("--no-measure", action="store_true", help="do not measure on the real digits afterwards")
    args = parser.parse_args()
    args.spelled = " ".join(f"--{name.replace('_', '-')} {getattr(args, name)}" for name in NAMED)
    return args


def write_tower(folder: Path, model: CLIPModel, card: dict) -> None:
    """The image tower in half precision, and the card; everything else is in the folder of `tiny`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items() if TOWER in name}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    write_card(folder, card)


def describe(args: argparse.Namespace, seconds: float) -> dict:
    """The part of the card that is known before measuring."""
    return {
        "name": "tiny-scenes",
        "data": f"{args.rendered:,} windows of scenes that scripts/tiny_scenes.py composed of {args.images:,} drawings "
        "by scripts/tiny_images.py (pen strokes, fonts, shapes, textures); no photographs, no scans, no third-party "
        "data set",
        "fonts": [Path(font).name for font in fonts()],
        "training": "image tower of tiny, trained further: patches by the value path of the last layer toward the text "
        "of what covers them, cross-entropy over 56 names, and the class token of whole drawings toward that of tiny; "
        "text tower and projection of tiny, unchanged and not stored here",
        "seed": args.seed,
        "steps": args.steps,
        "batch": args.windows + args.pictures,
        "command": "python scripts/pretrain_scenes.py " + args.spelled,
        "seconds": round(seconds),
        "versions": {"torch": torch.__version__.split("+")[0], "numpy": np.__version__},
        "license": "Apache-2.0",
        "intended_use": "tests, demonstrations and teaching without a download; not a substitute for a real model",
    }


def main() -> None:
    """Render, train, save."""
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    began = time.time()
    model = train_scenes(args)
    card = describe(args, time.time() - began)
    write_tower(args.out / "tiny-scenes", model, card)
    if not args.no_measure:
        from measure_tiny import measurements

        write_card(args.out / "tiny-scenes", {**card, **measurements(args.out, ["tiny-scenes"])["tiny-scenes"]})


if __name__ == "__main__":
    main()
