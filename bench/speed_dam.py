"""DAM's alignment compared with its c × c form: ``python -m bench.speed dam``.

The reference follows equations 1 to 11 literally: a c × c inverse (by Cholesky) for every image and every class,
the maps W of same-modal alignment, and the maps W_IT and W_TI of every pair of an image and a class, each formed in
O(c²) from its inverse, all in torch with autograd. B = 8 images, N = 100 classes, c = 512, forward and backward;
processor seconds of the whole step on both sides, outputs and gradients compared. The reference needs 4 GB.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import speed
from modalign.methods.dam.dam_alignment import DAMAlignment

B, N, C = 8, 100, 512
MIXING = 0.1
REQUIRED = 1000
TOLERANCE = 1e-4


def measure(full: bool) -> list[dict[str, Any]]:
    """One row; ``full`` runs the plain side three times."""
    torch.manual_seed(0)
    inputs = [F.normalize(torch.randn(n, C), dim=1).requires_grad_() for n in (B, B, N, N)]
    module = DAMAlignment(official_code=True, aligned_weight=MIXING)
    runs = [seconds(lambda *parts: plain(module, *parts), inputs, module) for _ in range(3 if full else 1)]
    own = [seconds(lambda *parts: ours(module, *parts), inputs, module) for _ in range(30)]
    reference, spent = (median(run[0] for run in side) for side in (runs, own))
    return [
        {
            "what": f"B={B} N={N} c={C}, forward and backward",
            "plain_seconds": reference,
            "seconds": spent,
            "faster": reference / spent,
            "required": REQUIRED,
            "difference": max(difference(g, e) for g, e in zip(own[0][1:], runs[0][1:], strict=True)),
        }
    ]


def ours(module: DAMAlignment, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and L_SMA in closed form."""
    found = module(*inputs)
    return found.logits, found.loss


def plain(module: DAMAlignment, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The same with c × c matrices."""
    frozen_images, images, frozen_texts, texts = (F.normalize(part, dim=1) for part in inputs)
    f_A, loss_image = plain_same_modal(frozen_images, images, module.images.log_ridge, module.images.rho, B)
    f_D, loss_text = plain_same_modal(frozen_texts, texts, module.texts.log_ridge, module.texts.rho, N)
    scales = module.cross_scales
    inverse_images = ridge_inverses(f_A, B / C * scales[0].exp() + 1e-6)
    inverse_texts = ridge_inverses(f_D, N / C * scales[2].exp() + 1e-6)
    distances = []
    for a, of_a in zip(f_A, inverse_images, strict=True):
        row = []
        for t, of_t in zip(f_D, inverse_texts, strict=True):
            W_IT = torch.outer(t, a @ of_a)
            W_TI = torch.outer(a, t @ of_t)
            of_text = (t - scales[1].exp() * (W_IT @ a)).square().sum()
            of_image = (a - scales[3].exp() * (W_TI @ t)).square().sum()
            row.append(-module.alpha * of_text - (1 - module.alpha) * of_image)
        distances.append(torch.stack(row))
    cross = torch.log_softmax(module.omega * torch.stack(distances), dim=1)
    blend = module.blend_logit.sigmoid()
    return 100 * (blend * f_A @ f_D.T + (1 - blend) * cross), loss_image + loss_text


def plain_same_modal(
    frozen: Tensor, prompted: Tensor, log_ridge: Tensor, rho: Tensor, rows: int
) -> tuple[Tensor, Tensor]:
    """Equations 1 to 6, then mixing and scaling to length one."""
    found = []
    for f_0, f, inverse in zip(
        frozen, prompted, ridge_inverses(prompted, rows / C * log_ridge.exp() + 1e-6), strict=True
    ):
        W = rho * torch.eye(C) + (1 - rho) * torch.outer(f_0, f @ inverse)
        found.append(F.normalize(f + MIXING * W @ f, dim=0))
    found = torch.stack(found)
    return found, 1 - torch.cosine_similarity(frozen, found, dim=1).mean()


def ridge_inverses(rows: Tensor, lam: Tensor) -> list[Tensor]:
    """(f fᵀ + λ I)⁻¹ of every row, one matrix at a time."""
    identity = torch.eye(C)
    return [torch.cholesky_inverse(torch.linalg.cholesky(torch.outer(f, f) + lam * identity)) for f in rows]


def seconds(function: Any, inputs: list[Tensor], module: DAMAlignment) -> tuple[float, Tensor, ...]:
    """Processor seconds of outputs and gradients of a cross-entropy with L_SMA; outputs, gradients of the features.

    The scalars get gradients as well; those of the cross-modal term are zero but for rounding, and β's is compared.
    """
    wanted = [*inputs, *module.parameters()]
    started = time.process_time()
    logits, loss = function(*inputs)
    total = F.cross_entropy(logits, torch.arange(B)) + 8 * loss
    gradients = torch.autograd.grad(total, wanted)
    spent = time.process_time() - started
    named = dict(zip([name for name, _ in module.named_parameters()], gradients[4:], strict=True))
    acting = [named[name] for name in ("images.rho", "images.log_ridge", "texts.rho", "texts.log_ridge", "blend_logit")]
    return spent, logits.detach(), loss.detach(), *gradients[:4], *acting


def difference(got: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((got - expected).abs().max() / expected.abs().max())


def missed(rows: list[dict[str, Any]]) -> bool:
    """Whether it is slower than required or computes something else."""
    return any(row["faster"] < row["required"] or not row["difference"] < TOLERANCE for row in rows)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("DAM's alignment beside its c × c form, processor seconds (c × c, ours)")
    for row in rows:
        print(
            f"  {row['what']}: {row['plain_seconds']:.2f} {row['seconds']:.4f}  {row['faster']:,.0f} × "
            f"(required {row['required']:,})  difference {row['difference']:.0e}"
        )


if __name__ == "__main__":
    sys.exit(speed.main([*sys.argv[1:], "dam"]))
