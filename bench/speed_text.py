"""CLIP's text tower with learnable prompts compared with the plain 77-token path, with equal weights and losses.

The tower has the size of ViT-B/16's (width 512, 8 heads, 12 layers, context 77) and random weights; its vocabulary is
cut, which changes no arithmetic. A class name has one to four tokens (``NAME_TOKENS`` in turn, 1.9 on average, about
what the names of Caltech101 or ImageNet come to) and is followed by a full stop, as CoOp writes it. The plain path
runs the layers of ``transformers`` (fused attention) over all 77 positions of all classes, a prompt set at a time.
Both go forward and backward to the prompts with frozen weights; they take turns, processor time is compared, the best
of the turns counts. ``--full`` also runs four prompt sets, and trains K = 1,000 classes in a process of its own, of
which the peak memory is reported.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from modalign.encoders.towers.vision_tower import Sentences, TextTower

WIDTH, HEADS, DEPTH, CONTEXT = 512, 8, 12, 77
START, END = 598, 599
NAME_TOKENS = (1, 1, 2, 2, 1, 3, 1, 2, 2, 4)
CASES = (  # name, classes, prompt sets, tokens, depth, required speed relative to the plain path
    ("coop", 100, 1, 16, 1, 12.0),
    ("maple", 50, 2, 2, 9, 8.0),
    ("align", 50, 4, 2, 9, 8.0),
)
TURNS, FASTER_TURNS = 2, 4  # of the plain path; of the tower for each of those
MOST_GIB = 8.0
TOLERANCE = 1e-4


class Words:
    """A tokenizer of one token a word."""

    def __call__(self, sentences: Sequence[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[START, *map(int, sentence.split()), END] for sentence in sentences]}


def class_sentences(K: int) -> list[str]:
    """K class names of ``NAME_TOKENS`` tokens, each with its full stop (token 0)."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(1, START, (NAME_TOKENS[k % len(NAME_TOKENS)],), generator=generator) for k in range(K)]
    return [" ".join(map(str, [*row.tolist(), 0])) for row in rows]


def network() -> CLIPModel:
    """A CLIP with that text tower and a minimal vision tower."""
    torch.manual_seed(0)
    text = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": DEPTH,
        "max_position_embeddings": CONTEXT,
        "vocab_size": END + 1,
        "bos_token_id": START,
        "eos_token_id": END,
    }
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}
    config = CLIPConfig(text_config=text, vision_config={**vision, "image_size": 8, "patch_size": 8})
    return CLIPModel(config).eval().requires_grad_(False)


def plain(model: CLIPModel, sentences: Sentences, prompts: Sequence[Tensor]) -> Tensor:
    """Features (K, d) of one prompt set, (M, width) a layer, in the direct form."""
    text, (K, L) = model.text_model, sentences.ids.shape
    ids = torch.full((K, CONTEXT), END)
    ids[:, :L] = sentences.ids
    x = text.embeddings.token_embedding(ids)
    for layer, block in enumerate(text.encoder.layers):
        if layer < len(prompts):
            prompt = prompts[layer].expand(K, -1, -1)
            x = torch.cat([x[:, :1], prompt, x[:, 1 + prompt.shape[1] :]], dim=1)
        if layer == 0:
            x = x + text.embeddings.position_embedding.weight
        x = block(x, None, is_causal=True)
    return model.text_projection(text.final_layer_norm(x)[torch.arange(K), sentences.ends])


def timed(step: Callable[[], float], prompts: Sequence[Tensor]) -> tuple[float, float, list[Tensor]]:
    """Processor seconds of a step, its loss, and the gradients it left."""
    for prompt in prompts:
        prompt.grad = None
    start = time.process_time()
    loss = step()
    seconds = time.process_time() - start
    return seconds, loss, [prompt.grad.clone() for prompt in prompts]


def compare(
    model: CLIPModel, name: str, classes: int, sets: int, length: int, depth: int, asked: float
) -> dict[str, Any]:
    """One case: both paths in turn."""
    tower = TextTower.of(model, Words())
    sentences = tower.tokenize(class_sentences(classes), length)
    generator = torch.Generator().manual_seed(1)
    prompts = [(0.02 * torch.randn(sets, length, WIDTH, generator=generator)).requires_grad_() for _ in range(depth)]
    aim = torch.randn(sets, classes, WIDTH, generator=generator)

    def fast_step() -> float:
        loss = (tower(sentences, prompts).pooled * aim).mean()
        loss.backward()
        return float(loss.detach())

    def plain_step() -> float:
        total = 0.0
        for g in range(sets):
            loss = (plain(model, sentences, [prompt[g] for prompt in prompts]) * aim[g]).mean() / sets
            loss.backward()
            total += float(loss.detach())
        return total

    fast_seconds, plain_seconds = [], []
    for _ in range(TURNS):
        seconds, loss, gradients = timed(plain_step, prompts)
        plain_seconds.append(seconds)
        for _ in range(FASTER_TURNS):
            seconds, fast_loss, fast_gradients = timed(fast_step, prompts)
            fast_seconds.append(seconds)
    gap = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(fast_gradients, gradients, strict=True))
    own = (sentences.ends - length).tolist()
    return {
        "case": name,
        "classes": classes,
        "sets": sets,
        "prompt_tokens": length,
        "depth": depth,
        "own_tokens_mean": sum(own) / classes,
        "own_tokens_most": max(own),
        "plain_seconds": min(plain_seconds),
        "tower_seconds": min(fast_seconds),
        "times": min(plain_seconds) / min(fast_seconds),
        "asked": asked,
        "loss_difference": abs(fast_loss - loss),
        "gradient_difference": gap,
    }


def peak_of_training(classes: int, checkpoint: bool, send: Any) -> None:
    """One step of CoOp; sends the peak resident memory of this process in GiB and its processor seconds."""
    torch.set_num_threads(1)
    tower = TextTower.of(network(), Words())
    prompts = [(0.02 * torch.randn(16, WIDTH)).requires_grad_()]
    start = time.process_time()
    tower(tower.tokenize(class_sentences(classes), 16), prompts, checkpoint=checkpoint).pooled.square().sum().backward()
    seconds = time.process_time() - start
    send.send((highest(), seconds))


def highest() -> float:
    """The peak memory of this process, in GiB; getrusage would count what its parent held (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmHWM"))


def memory(classes: int, checkpoint: bool) -> dict[str, Any]:
    """Peak memory of a step in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=peak_of_training, args=(classes, checkpoint, send))
    child.start()
    peak, seconds = receive.recv()
    child.join()
    return {
        "case": f"memory, {'recomputed' if checkpoint else 'kept'}",
        "classes": classes,
        "peak_gib": peak,
        "tower_seconds": seconds,
        "asked": MOST_GIB,
    }


def measure(full: bool) -> list[dict[str, Any]]:
    """CoOp and two deep prompt sets; with ``full`` four sets and the memory of 1,000 classes too."""
    model = network()
    rows = [compare(model, *case) for case in (CASES if full else CASES[:2])]
    return rows + ([memory(1000, checkpoint) for checkpoint in (False, True)] if full else [])


def headline(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The figure of the headline."""
    return {"coop_text_speedup": next(row["times"] for row in rows if row["case"] == "coop")}


def show(rows: list[dict[str, Any]]) -> None:
    """One line per case."""
    for row in rows:
        if "peak_gib" in row:
            print(
                f"text {row['case']:<18} K={row['classes']}: {row['peak_gib']:.2f} GiB at most (required <= "
                f"{row['asked']:g}), {row['tower_seconds']:.1f} processor s per step"
            )
            continue
        print(
            f"text {row['case']:<6} K={row['classes']}, {row['sets']} sets of {row['prompt_tokens']} prompts, depth "
            f"{row['depth']}, own tokens {row['own_tokens_mean']:.1f} (most {row['own_tokens_most']}): plain "
            f"{row['plain_seconds']:.2f} s, tower {row['tower_seconds']:.3f} s, {row['times']:.1f} x (required "
            f"{row['asked']:g}), gradients differ by {row['gradient_difference']:.0e}"
        )


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether a case was slower or larger than required, or the two paths disagreed."""
    return any(
        row["peak_gib"] > row["asked"]
        if "peak_gib" in row
        else row["times"] < row["asked"] or row["gradient_difference"] > TOLERANCE
        for row in rows
    )
