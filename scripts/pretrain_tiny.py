"""Train the embedded encoders, a small CLIP and a small self-supervised vision model, on rendered images only.

    python scripts/pretrain_tiny.py --out src/modalign/encoders/weights

writes `tiny/` (CLIP) and `tiny-vision/` there, in Hugging Face format, each with a card. The images are drawn by
`tiny_images.py` from `--seed`; a cache of them is kept in the temporary folder. No photograph, no scan and no
data set is read for training. After training, `measure_tiny.py` puts the accuracy on unseen real digits into the
cards (`--no-measure` leaves it out).

Both image towers are self-supervised: a contrastive loss pairs two distorted views of each picture in the batch,
without labels or sentences (SimCLR), and a decoder reconstructs the undistorted picture from the class token. The
image tower of the CLIP is then frozen, and the text tower is trained by a softmax over the batch (LiT). Every sentence
that is true of a picture is a positive for it, so that two sevens in one batch are not separated.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import math
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tiny_images import FACTS, SIZE, caption, fonts, render
from tiny_models import MEAN, STD, tiny_clip, tiny_tokenizer, tiny_vision, write_card, write_folder
from tiny_muon import Muon
from torch import Tensor, nn

SELF_SUPERVISED = "self-supervised (no labels, no sentences): SimCLR on two distorted views, and redrawing the picture"
HIDDEN = re.compile(r"\.(layers?)\.\d+\.")  # matrices inside the transformer blocks


def rendered_pool(seed: int, count: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` rendered images (n, 32, 32, 3) uint8 and their facts (n, 6); cached per seed and renderer version."""
    sources = [Path(__file__).with_name(name).read_bytes() for name in ("tiny_images.py", "tiny_strokes.py")]
    version = hashlib.sha256(b"".join(sources) + "".join(fonts()).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"modalign-tiny-{seed}-{count}-{version}"
    if not (folder / "facts.npy").exists():
        folder.mkdir(exist_ok=True)
        start, images, facts = time.time(), [], []
        with multiprocessing.Pool(workers) as pool:
            for image, known in pool.imap(functools.partial(render, seed), range(count), chunksize=256):
                images.append(image)
                facts.append(known)
        np.save(folder / "images.npy", np.stack(images))
        np.save(folder / "facts.npy", np.array(facts, np.int64))
        print(f"rendered {count} images in {time.time() - start:.0f} s", flush=True)
    return np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "facts.npy")


def distort(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Random small affine and elastic distortion, contrast, blur and noise of images (B, 3, H, W) in [0, 1]."""
    b = len(pixels)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * strength

    angle, shear = normal(b) * 0.1, normal(b) * 0.1
    sx, sy = torch.exp(normal(b) * 0.07), torch.exp(normal(b) * 0.05)
    rows = [sx * angle.cos(), -angle.sin() + shear, normal(b) * 0.05, angle.sin(), sy * angle.cos(), normal(b) * 0.04]
    grid = F.affine_grid(torch.stack(rows, 1).view(b, 2, 3), list(pixels.shape), align_corners=False)
    field = F.interpolate(normal(b, 2, 4, 4) * 0.035, (SIZE, SIZE), mode="bicubic", align_corners=True)
    warped = F.grid_sample(pixels, grid + field.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
    coarse = F.interpolate(F.avg_pool2d(warped, 4), (SIZE, SIZE), mode="bicubic", align_corners=False)
    amount = torch.rand(b, 1, 1, 1, generator=generator) * strength
    pick = torch.rand(b, 1, 1, 1, generator=generator) < 0.3
    warped = torch.where(pick, warped + amount.clamp(max=1) * (coarse - warped), warped)
    gain, lift = 1 + normal(b, 1, 1, 1) * 0.12, normal(b, 3, 1, 1) * 0.03
    noise = torch.randn(pixels.shape, generator=generator) * torch.rand(b, 1, 1, 1, generator=generator) * 0.04
    return ((warped - 0.5) * gain + 0.5 + lift + strength * noise).clamp(0, 1)


def normalize(pixels: Tensor) -> Tensor:
    """The saved preprocessor's mean and standard deviation."""
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def divergence(logits: Tensor, true: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of softmax rows from the uniform distribution over the true columns."""
    target = true / true.sum(1, keepdim=True)
    return F.kl_div(F.log_softmax(logits, 1), target, reduction="batchmean")


def batches(images: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Endless shuffled batches: row numbers and pixels (B, 3, H, W) in [0, 1]."""
    while True:
        order = rng.permutation(len(images))
        for i in range(0, len(order) - size + 1, size):
            rows = np.sort(order[i : i + size])
            yield rows, torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float() / 255


def train(model: nn.Module, loss_of_step: Callable[[], list[Tensor]], steps: int, rate: float, name: str) -> nn.Module:
    """Muon for the hidden matrices, AdamW for the rest; returns the model holding the average of its weights."""
    hidden, rest = [], []
    for key, p in model.named_parameters():
        if p.requires_grad:
            (hidden if p.ndim == 2 and HIDDEN.search(key) else rest).append(p)
    optimisers = [Muon(hidden, rate, weight_decay=0.05), torch.optim.AdamW(rest, rate / 8, (0.9, 0.98))]
    warm = max(1, min(100, steps // 10))

    def share(t: int) -> float:
        return min(1, (t + 1) / warm) * max(0.01, 1 - t / steps)

    schedules = [torch.optim.lr_scheduler.LambdaLR(o, share) for o in optimisers]
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    start, recent = time.time(), []
    for step in range(steps):
        parts = loss_of_step()
        model.zero_grad()
        sum(parts).backward()
        recent.append([part.item() for part in parts])
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (*optimisers, *schedules):
            part.step()
        if step >= warm:
            average.update_parameters(model)
        if step % 100 == 0 or step == steps - 1:
            shown = " + ".join(f"{value:.3f}" for value in np.mean(recent, 0))
            print(f"{name} {step + 1}/{steps}  loss {shown}  {time.time() - start:.0f} s", flush=True)
            recent.clear()
    return average.module.eval()


class TwoViews(nn.Module):
    """A vision tower with the heads that self-supervision needs and the saved model does not."""

    def __init__(self, tower: nn.Module, width: int) -> None:
        super().__init__()
        self.tower = tower
        self.project = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 64))
        self.redraw = nn.Linear(width, 3 * (SIZE // 2) ** 2)


def self_supervised(tower: nn.Module, images: np.ndarray, args: argparse.Namespace, name: str) -> nn.Module:
    """The tower after SimCLR on two distorted views, plus redrawing the undistorted picture."""
    rng, generator = np.random.default_rng([args.seed, 2]), torch.Generator().manual_seed(args.seed + 1)
    both = TwoViews(tower, tower.config.hidden_size).train()
    stream = batches(images, args.vision_batch, rng)

    def loss_of_step() -> list[Tensor]:
        _, pixels = next(stream)
        views = torch.cat([distort(pixels, 1.0, generator), distort(pixels, 1.0, generator)])
        feature = both.tower(pixel_values=normalize(views)).pooler_output
        z = F.normalize(both.project(feature), dim=-1)
        n = len(pixels)
        logits = (z @ z.T / 0.15).fill_diagonal_(-torch.inf)
        partner = torch.arange(2 * n).roll(n)
        wanted = normalize(F.avg_pool2d(pixels, 2)).flatten(1).repeat(2, 1)
        return [F.cross_entropy(logits, partner), args.redraw * F.mse_loss(both.redraw(feature), wanted)]

    return train(both, loss_of_step, args.vision_steps, args.rate, name).tower


def train_clip(images: np.ndarray, facts: np.ndarray, args: argparse.Namespace) -> tuple[nn.Module, object]:
    """A self-supervised image tower, frozen; then the text tower and the projection are trained to match it (LiT).

    Every third picture brings a sentence, and all true pairs are partners. The image tower keeps what tells any two
    pictures apart, so that a few labels go far; sentences learn where in it their meaning lies.
    """
    rng, generator = np.random.default_rng([args.seed, 1]), torch.Generator().manual_seed(args.seed)
    tokenizer = tiny_tokenizer([caption(tuple(f), rng)[0] for f in facts[:20_000].tolist()])
    model = tiny_clip(tokenizer)
    model.vision_model = self_supervised(model.vision_model, images, args, "clip images")
    model.vision_model.requires_grad_(False)
    nn.init.eye_(model.visual_projection.weight)
    model.train()
    stream = batches(images, args.batch, rng)

    def loss_of_step() -> list[Tensor]:
        rows, pixels = next(stream)
        known = facts[rows]
        sentences, said = zip(*(caption(tuple(f), rng) for f in known[::3].tolist()), strict=True)
        said = np.array(said)
        true = np.ones((len(known), len(said)), bool)
        for column in range(len(FACTS)):
            true &= (said[None, :, column] < 0) | (said[None, :, column] == known[:, None, column])
        true = torch.from_numpy(true).float()
        tokens = tokenizer(list(sentences), padding=True, return_tensors="pt")
        with torch.no_grad():
            vision = model.vision_model(pixel_values=normalize(distort(pixels, 0.5, generator))).pooler_output
            model.logit_scale.clamp_(max=math.log(100))
        u = F.normalize(model.visual_projection(vision), dim=-1)
        v = F.normalize(model.text_projection(model.text_model(**tokens).pooler_output), dim=-1)
        logits = model.logit_scale.exp() * u @ v.T
        told = true.sum(1) > 0
        return [(divergence(logits[told], true[told]) + divergence(logits.T, true.T)) / 2]

    return train(model, loss_of_step, args.steps, args.rate, "clip text"), tokenizer


def describe(args: argparse.Namespace, what: str, steps: int, batch: int, seconds: float, training: str) -> dict:
    """The part of a card that is known before measuring."""
    return {
        "name": what,
        "data": f"{args.images:,} images drawn by scripts/tiny_images.py (pen strokes, fonts, shapes, textures) "
        "with captions made from the facts of each drawing; no photographs, no scans, no third-party data set",
        "fonts": [Path(font).name for font in fonts()],
        "training": training,
        "seed": args.seed,
        "steps": steps,
        "batch": batch,
        "command": "python scripts/pretrain_tiny.py " + args.spelled,
        "seconds": round(seconds),
        "versions": {"torch": torch.__version__.split("+")[0], "numpy": np.__version__},
        "license": "Apache-2.0",
        "intended_use": "tests, demonstrations and teaching without a download; not a substitute for a real model",
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/modalign/encoders/weights"), help="folder of both models")
    parser.add_argument("--seed", type=int, default=0, help="of the renders, the weights and the batches")
    parser.add_argument("--images", type=int, default=120_000, help="how many images to render")
    parser.add_argument("--steps", type=int, default=700, help="steps in which the CLIP's text tower learns")
    parser.add_argument("--vision-steps", type=int, default=1_000, help="self-supervised steps of each image tower")
    parser.add_argument("--batch", type=int, default=192, help="images per step of the text tower")
    parser.add_argument("--vision-batch", type=int, default=128, help="images per step of self-supervision")
    parser.add_argument("--rate", type=float, default=1.5e-2, help="peak learning rate of Muon; AdamW has an eighth")
    parser.add_argument("--redraw", type=float, default=1.0, help="weight of redrawing in the vision model's loss")
    parser.add_argument("--only", choices=["clip", "vision"], help="train one of the two")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--threads", type=int, default=1, help="threads that train")
    parser.add_argument("--no-measure", action="store_true", help="do not measure on the real digits afterwards")
    args = parser.parse_args()
    named = ("seed", "images", "steps", "vision_steps", "batch", "vision_batch", "rate", "redraw")
    args.spelled = " ".join(f"--{n.replace('_', '-')} {getattr(args, n)}" for n in named)
    return args


def main() -> None:
    """Render, train, save, measure."""
    args = arguments()
    torch.set_num_threads(args.threads)
    images, facts = rendered_pool(args.seed, args.images, args.workers)
    cards = {}
    if args.only != "vision":
        torch.manual_seed(args.seed)
        start = time.time()
        model, tokenizer = train_clip(images, facts, args)
        how = f"image tower: {SELF_SUPERVISED}, {args.vision_steps:,} steps; then, with that tower locked, contrastive "
        how += "language-image, softmax over the batch, every true sentence a partner"
        cards["tiny"] = describe(args, "tiny", args.steps, args.batch, time.time() - start, how)
        write_folder(args.out / "tiny", model, cards["tiny"], tokenizer)
    if args.only != "clip":
        torch.manual_seed(args.seed)
        start = time.time()
        tower = self_supervised(tiny_vision(), images, args, "vision")
        seconds = time.time() - start
        cards["tiny-vision"] = describe(
            args, "tiny-vision", args.vision_steps, args.vision_batch, seconds, SELF_SUPERVISED
        )
        write_folder(args.out / "tiny-vision", tower, cards["tiny-vision"])
    if not args.no_measure:
        from measure_tiny import measurements

        for name, accuracy in measurements(args.out, list(cards)).items():
            write_card(args.out / name, {**cards[name], **accuracy})


if __name__ == "__main__":
    main()
