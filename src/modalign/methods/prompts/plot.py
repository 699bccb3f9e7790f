"""PLOT: several prompts per class, compared with the patches of an image by optimal transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from modalign.core.renaming import Formerly
from modalign.encoders.towers.vision_tower import VisionOutput
from modalign.linalg.similarity import unit
from modalign.linalg.token_transport import PlanKind, PromptTransport, prompt_transport, token_plan
from modalign.methods.contract.parameters import Count, Positive
from modalign.methods.contract.prompting import DIAGNOSED, PromptLearner, PromptMethod, text_prompts
from modalign.methods.contract.tower import Towers
from modalign.methods.prompts.patch_plans import PatchPlans, first_image, grid, prompt_plan
from modalign.tune.batches import ImageBatches
from modalign.tune.prompts import STD

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder


@dataclass(kw_only=True, eq=False, repr=False)
class PLOT(PromptMethod["PlotLearner"]):
    r"""Prompt learning with optimal transport: N textual prompts per class against the patches of an image.

    .. math:: d_k = \min_T \langle T, 1 - \cos(r_j, h^n_k) \rangle - \lambda h(T), \qquad
        p(y = k) \propto \exp((1 - d_k) / \tau)

    with uniform masses over the J patches r and the N prompts h. The plan is constant in the backward pass (envelope
    theorem). ``diagnosis_`` holds its entropy relative to that of a uniform plan; 1 means that it has no effect.

    Parameters
    ----------
    prompts : int, default=4
        N, contexts per class.
    n_ctx : int, default=16
        Trained tokens per context.
    words : str or None, default=None
        Initial words of all contexts, plus noise N(0, 0.02²); `n_ctx` is then ignored.
    epsilon : float, default=0.1
        λ, strength of the entropy.
    plan : {"transport", "uniform"}, default="transport"
        A uniform plan replaces transport, as a control.
    sweeps : int, default=100
        Maximum number of Sinkhorn sweeps.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.PLOT(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "PLOT"
    paper = (
        "Chen et al., PLOT: prompt learning with optimal transport for vision-language models, 2023, arXiv:2210.01253"
    )
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"uniform plan": {"plan": "uniform"}}

    prompts: Count = 4
    n_ctx: Annotated[Count, Formerly("length")] = 16
    words: str | None = None
    epsilon: Positive = 0.1
    plan: PlanKind = "transport"
    sweeps: Count = 100

    def _learner(self, towers: Towers, generator: Generator) -> PlotLearner:
        words, length = None, self.n_ctx
        if self.words is not None:
            words = towers.text.words(self.words).cpu()
            length = len(words)
            words = words + STD * torch.randn(self.prompts, *words.shape, generator=generator)
        prompts = text_prompts(towers, length, generator, sets=self.prompts, words=words)
        return PlotLearner(towers, prompts, length, self)

    @torch.no_grad()
    def explain(self, items: Items, encoder: ClipEncoder, label: int | str | None = None) -> PatchPlans:
        """Compute which patches of an image the prompts of a class are matched with.

        Parameters
        ----------
        items : Items
            The first image is used.
        encoder : ClipEncoder
            Encoder that the method was fitted on.
        label : int, str or None, default=None
            Class, by index or name. Default: the predicted class.
        """
        learner, classes, pixels, image, k = first_image(self, items, encoder, label)
        patches = learner.patches(pixels)[0, 0]
        maps = prompt_plan(patches, classes[:, k], self.epsilon)
        return PatchPlans(image=image, class_name=self.class_names_[k], prompts=grid(maps))


class PlotLearner(PromptLearner):
    """Prompts of PLOT and their transport to the patches.

    Parameters
    ----------
    towers : Towers
        The frozen encoder and the classes.
    prompts : object
        Sets of the text tower.
    n_ctx : int
        Trained tokens per context.
    settings : PLOT
        Hyper-parameters.
    """

    def __init__(self, towers: Towers, prompts: nn.Module, length: int, settings: PLOT) -> None:
        super().__init__(towers, prompts, "{}.", length)
        self.settings = settings

    def image_output(self, pixels: Tensor) -> VisionOutput:
        """The output of the vision tower with its patches."""
        return self.encode_images(pixels, tokens=True)

    def transport(self, output: VisionOutput, classes: Tensor) -> PromptTransport:
        """Distances between B images and classes (N, K, d)."""
        own = self.settings
        assert output.tokens is not None
        return prompt_transport(
            output.tokens[0, :, 1:], classes.transpose(0, 1), epsilon=own.epsilon, plan=own.plan, max_sweeps=own.sweeps
        )

    def logits_of(self, output: VisionOutput, classes: Tensor) -> Tensor:
        """(B, K) scaled 1 − d."""
        return self.towers.logit_scale * self.transport(output, classes).scores

    def patch_scores(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """(B, K, J) scaled parts of the score: J Σₙ Tⱼₙ cos(patch j, prompt n) with the plan T."""
        patches, prompts = self._own_patches(pixels)[0], classes.transpose(0, 1)
        plan = token_plan(patches, prompts, epsilon=self.settings.epsilon)
        cosines = torch.einsum("bjd,knd->bkjn", unit(patches), unit(prompts))
        return self.towers.logit_scale * patches.shape[1] * (plan * cosines).sum(dim=3)

    @torch.no_grad()
    def diagnose(self, data: ImageBatches) -> dict[str, Any]:
        """Entropy of the plans over that of uniform ones, and the worst marginal error."""
        classes = self.classes()
        found = self.transport(self.image_output(next(data.in_order(DIAGNOSED)).pixels), classes).alignment
        most = torch.tensor(float(self.towers.vision.patches * len(classes))).log()
        return {
            "plan_entropy": (found.entropy.mean() / most).item(),
            "marginal_error": found.marginal_error.amax().item(),
        }
