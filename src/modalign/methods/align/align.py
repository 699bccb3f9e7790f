"""ALIGN: several prompts in both towers, aligned by transport between prompts and between their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from modalign.core.errors import InputError, hyperparameter
from modalign.core.renaming import OFFICIAL, Formerly
from modalign.encoders.towers.vision_tower import Sentences, VisionOutput
from modalign.linalg.similarity import unit
from modalign.linalg.token_transport import PlanKind
from modalign.methods.align.align_transport import (
    ClassPrompts,
    TwoLevelTransport,
    Value,
    content_tokens,
    two_level_transport,
)
from modalign.methods.contract.estimators.estimator import unfitted
from modalign.methods.contract.parameters import Count, NonNegative, Positive, Range
from modalign.methods.contract.prompting import (
    DIAGNOSED,
    PromptLearner,
    PromptMethod,
    fitting_depth,
    initial_words,
    projected_prompts,
    sentences_with_slots,
)
from modalign.methods.contract.tower import Towers
from modalign.methods.prompts.patch_plans import (
    PatchPlans,
    cosine_maps,
    first_image,
    grid,
    token_maps,
    token_names,
)
from modalign.tune.batches import ImageBatches
from modalign.tune.prompts import IndependentPrompts, Prompts
from modalign.tune.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"coupling": "independent", "value": "entropic", "epochs": 40, "learning_rate": 0.0035},
    "official_code": {"coupling": "projected", "value": "cost", "epochs": 80, "learning_rate": 0.0025},
}


@dataclass(kw_only=True, eq=False, repr=False)
class ALIGN(PromptMethod["AlignLearner"]):
    r"""Multi-mode token-level prompt alignment: visual and textual prompts compared by optimal transport.

    M visual prompts per class give an image the class tokens :math:`z^m` and the local features :math:`r^m_j` (patches
    and prompt tokens). N textual prompts give a class the end-of-text features :math:`h^n` and the token features
    :math:`s^n_l` (prompt tokens and class name). With uniform masses

    .. math::
        \hat C^{mn}_{jl} &= 1 - \cos(r^m_j, s^n_l), \quad
        \hat d_{mn} = \min_{\hat T} \langle \hat T, \hat C^{mn} \rangle - \lambda h(\hat T) && (5) \\
        C_{mn} &= 1 - \cos(z^m, h^n) + \beta\, \hat d_{mn} && (6) \\
        d &= \min_T \langle T, C \rangle - \lambda h(T) && (4) \\
        p(y = k) &\propto \exp((1 - d_k) / \tau) && (7)

    trained by cross-entropy (8). Distances have the gradient ∂d/∂C = T
    (:mod:`modalign.methods.align.align_transport`).

    Parameters
    ----------
    preset : {"paper", "official_code"}, default="paper"
        The equations as printed, or what the published code computes. Parameters that are None depend on it.
    visual, textual : int, default=4
        M, visual prompts, where 0 freezes the images; N, textual prompts, where 0 freezes the texts and needs
        `token_weight` 0. They are equal unless `coupling` is ``"independent"``.
    n_ctx : int, default=2
        b, trained tokens per prompt and layer. The first textual prompt starts as "a photo"; with more
        than four tokens all start at random.
    depth : int, default=9
        Layers with prompts of their own, at most those of the tower with fewer layers.
    coupling : {"independent", "projected"} or None, default=None
        Separate visual prompts, or linear images of the textual ones, with one map per layer.
    token_weight : float, default=1.0
        β, weight of the token level; 0 omits it.
    prompt_weight : float, default=1.0
        Weight of the cosine in (6); 1 − β in equation 9 of the appendix, and 0 for the token level alone.
    epsilon : float, default=0.1
        λ, strength of the entropy at both levels.
    plan : {"transport", "uniform"}, default="transport"
        A uniform plan replaces transport, as a control.
    value : {"cost", "entropic"} or None, default=None
        ⟨T, C⟩ as in the published code, whose gradient leaves out how T changes, or ⟨T, C⟩ − λh(T) as in (4) and (5),
        with the exact gradient; it favors names with more tokens.
    sweeps : int, default=100
        Maximum number of Sinkhorn sweeps.

    Examples
    --------
    >>> import modalign as ma
    >>> from modalign.data.digits import load_digits
    >>> digits = load_digits().select(range(30))
    >>> model = ma.adapt(digits, method=ma.ALIGN(epochs=1, random_state=0), validation="none", mirror=False)
    >>> model.predict_proba(digits.select([0, 1])).shape
    (2, 10)
    """

    title = "ALIGN"
    paper = (
        "Wang et al., Tuning multi-mode token-level prompt alignment across modalities, NeurIPS 2023, arXiv:2309.13847"
    )
    ablations: ClassVar[dict[str, dict[str, Any]]] = {
        "uniform plan": {"plan": "uniform"},
        "no token level": {"token_weight": 0.0},
        "token level alone": {"prompt_weight": 0.0},
    }

    preset: Annotated[Literal["paper", "official_code"], OFFICIAL] = "paper"
    visual: Annotated[int, Range(0)] = 4
    textual: Annotated[int, Range(0)] = 4
    n_ctx: Annotated[Count, Formerly("length")] = 2
    depth: Count = 9
    coupling: Literal["independent", "projected"] | None = None
    token_weight: Annotated[NonNegative, Formerly("beta")] = 1.0
    prompt_weight: NonNegative = 1.0
    epsilon: Positive = 0.1
    plan: PlanKind = "transport"
    value: Value | None = None
    sweeps: Count = 100
    epochs: Count | None = None  # type: ignore[assignment]  # None: as the preset has it
    batch_size: Count = 4
    learning_rate: NonNegative | None = None  # type: ignore[assignment]  # None: as the preset has it

    def _settled(self) -> Self:
        """Return a copy with all None parameters set by the preset."""
        open_ones = {name: value for name, value in PRESETS[self.preset].items() if getattr(self, name) is None}
        return unfitted(self).set_params(**open_ones)

    def _recipe(self, labels: np.ndarray) -> Recipe:
        return super(ALIGN, self._settled())._recipe(labels)

    def _learner(self, towers: Towers, generator: Generator) -> AlignLearner:
        own = self._settled()
        if own.coupling == "projected" and own.visual != own.textual:
            raise InputError(
                f"Expected as many visual as textual prompts where one is projected from the other, got {own.visual} "
                f"and {own.textual}; choose {hyperparameter('coupling', 'independent')} or equal numbers."
            )
        if not own.textual and (own.token_weight or not own.visual):
            raise InputError(
                f"Expected {hyperparameter('token_weight', '0')} and visual prompts without textual ones, whose tokens "
                f"the others are compared with, got token_weight {own.token_weight:g} and {own.visual} visual prompts."
            )
        if own.preset == "official_code" and own.value == "entropic":
            raise InputError(
                f"Expected {hyperparameter('value', 'cost')} with {hyperparameter('preset', 'official_code')}, whose "
                "score has no entropy in it."
            )
        depth = fitting_depth(own.depth, towers)
        words, sentence = initial_words(towers.text, own.n_ctx)
        options: dict[str, Any] = {"depth": depth, "generator": generator}
        M, N, width = own.visual, own.textual, towers.vision.width
        text = Prompts(own.n_ctx, towers.text.width, sets=N, words=words, **options) if N else None
        if own.coupling == "projected" and text is not None:
            return AlignLearner(towers, projected_prompts(text, towers, generator), sentence, own)
        vision = Prompts(own.n_ctx, width, sets=M, **options) if M else None
        return AlignLearner(towers, IndependentPrompts(text, vision), sentence if N else None, own)

    @torch.no_grad()
    def explain(self, items: Items, encoder: ClipEncoder, label: int | str | None = None) -> PatchPlans:
        """Compute which patches of an image the prompts and tokens of a class are matched with.

        Token plans are computed to convergence, also if the score uses other plans (``official_code``, ``uniform``).

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
        plan = learner.transport(learner.image_output(pixels), classes).plan[0, k]
        weights = plan / plan.sum(dim=0)
        patches = learner.patches(pixels)[:, 0]
        some = slice(0, learner.towers.vision.patches)
        tokens: tuple[np.ndarray, ...] | None = None
        words: tuple[tuple[str, ...], ...] = ()
        if classes.words is not None:
            mask = classes.mask[k]
            maps = token_maps(patches, classes.words[k], mask, weights, self.epsilon)
            tokens = tuple(grid(each[:, some]) for each in maps)
            words = tuple(learner.words(k, mask, encoder.tokenizer))
        return PatchPlans(
            image=image,
            class_name=self.class_names_[k],
            prompts=grid(cosine_maps(patches[:, some], classes.prompts[k], weights)),
            tokens=tokens,
            words=words,
            plan=(plan * plan.numel()).cpu().numpy(),
        )


class AlignLearner(PromptLearner):
    """Prompts and two-level score of ALIGN; ``sentence`` follows the trained tokens."""

    sentences: Sentences
    groups: list[tuple[slice, Sentences, Tensor]]  # some of the prompts, what they are read in, and what counts of that

    def __init__(self, towers: Towers, prompts: nn.Module, sentence: str | None, settings: ALIGN) -> None:
        super().__init__(towers, prompts, sentence, settings.n_ctx)
        self.settings, self.groups = settings, []
        if sentence is None:
            return
        fixed = len(towers.text.words(sentence.removesuffix("{}.")))
        if settings.preset == "official_code":
            plain = sentences_with_slots(towers, "{}.", settings.n_ctx)
            content = torch.arange(self.sentences.ids.shape[1]) <= self.sentences.ends[:, None] - 2
            groups = [(slice(0, 1), self.sentences, content), (slice(1, None), plain, plain.mask)]
            self.groups = groups[: settings.textual]
        else:
            self.groups = [(slice(None), self.sentences, content_tokens(self.sentences, fixed))]

    def classes(self) -> ClassPrompts:
        """All textual prompts of all classes, or their frozen texts."""
        if not self.groups:
            return ClassPrompts(self.towers.prototypes()[:, None], None, None)
        prompts, tokens = self.prompts.prompts().text, self.settings.token_weight > 0
        read = [self.read(s, tuple(p[some] for p in prompts), tokens=tokens) for some, s, _ in self.groups]
        pooled = torch.cat([out.pooled for out in read]).transpose(0, 1)
        if not tokens:
            return ClassPrompts(pooled, None, None)
        every = [out.tokens for out in read if out.tokens is not None]
        longest = max(own.shape[2] for own in every)
        words = torch.cat([F.pad(own, (0, 0, 0, longest - own.shape[2])) for own in every])
        masks = [
            F.pad(mask, (0, longest - mask.shape[1])).expand(len(out.pooled), -1, -1)
            for out, (_, _, mask) in zip(read, self.groups, strict=True)
        ]
        return ClassPrompts(pooled, words.transpose(0, 1), torch.cat(masks).transpose(0, 1).to(words.device))

    def image_output(self, pixels: Tensor) -> VisionOutput:
        """The output of the vision tower, with patches if tokens are compared."""
        return self.encode_images(pixels, tokens=self.settings.token_weight > 0)

    def transport(self, output: VisionOutput, classes: ClassPrompts) -> TwoLevelTransport:
        """Compute plans and scores of images and classes."""
        own = self.settings
        assert own.value is not None  # the preset has it
        return two_level_transport(
            output.pooled.transpose(0, 1),
            classes.prompts,
            None if output.tokens is None else output.tokens[:, :, 1:].transpose(0, 1),
            classes.words,
            classes.mask,
            epsilon=own.epsilon,
            token_weight=own.token_weight,
            prompt_weight=own.prompt_weight,
            official_code=own.preset == "official_code",
            plan=own.plan,
            value=own.value,
            max_sweeps=own.sweeps,
        )

    def words(self, k: int, mask: Tensor, tokenizer: Any) -> Iterator[tuple[str, ...]]:
        """Return the text of each token of every textual prompt of class k; ``mask`` (N, L)."""
        sets = [s for some, s, _ in self.groups for _ in range(*some.indices(self.settings.textual))]
        for sentences, own in zip(sets, mask, strict=True):
            names = token_names(sentences, k, tokenizer)
            yield tuple(names[i] for i in own.nonzero()[:, 0].tolist())

    def logits_of(self, output: VisionOutput, classes: ClassPrompts) -> Tensor:
        """(B, K) scaled 1 − d."""
        return self.towers.logit_scale * self.transport(output, classes).scores

    def patch_scores(self, pixels: Tensor, classes: ClassPrompts) -> Tensor:
        """(B, K, J) scaled cosines of patches and prompts, averaged with the prompt plans."""
        plan, patches = self.transport(self.image_output(pixels), classes).plan, self._own_patches(pixels)
        cosines = torch.einsum("mbjd,knd,bkmn->bkj", unit(patches), unit(classes.prompts), plan)
        return self.towers.logit_scale * cosines / plan.sum(dim=(2, 3))[..., None]

    @torch.no_grad()
    def diagnose(self, data: ImageBatches) -> dict[str, Any]:
        """Return the entropies of the plans relative to uniform plans, and the largest marginal errors."""
        pixels = next(data.in_order(DIAGNOSED)).pixels
        return {
            "prompt_layers": max(map(len, self.prompts.prompts())),
            **self.transport(self.image_output(pixels), self.classes()).diagnosis(),
        }
