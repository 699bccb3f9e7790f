"""The prompt methods that ALIGN generalises (its Table 4), each as published, from the same parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor, nn

from modalign.linalg.similarity import unit
from modalign.methods.align_transport import PlanKind, PromptTransport, prompt_transport
from modalign.methods.parameters import Count, NonNegative, Positive
from modalign.methods.patch_plans import PatchPlans, chosen_class, grid, one_image, prompt_plan
from modalign.methods.prompting import (
    LOOKED_AT,
    START,
    PromptLearner,
    PromptMethod,
    fitting_depth,
    projected,
    start,
    textual,
)
from modalign.methods.tower import Learner, Towers
from modalign.tune.batches import ImageBatches
from modalign.tune.prompts import STD, ConditionalPrompts, IndependentPrompts, JointPrompts, Prompts

if TYPE_CHECKING:
    from modalign.data.items import Items
    from modalign.encoders.clip import ClipEncoder


@dataclass(kw_only=True, eq=False, repr=False)
class CoOp(PromptMethod):
    r"""Context optimisation: the words around the class name are learned, everything else stays.

    .. math:: t_k = [v_1 \dots v_m\, \mathrm{class}_k\, .], \qquad p(y = k) \propto \exp(\cos(f(x), g(t_k)) / \tau)

    with v of the text tower's width, the same for all classes or each class its own, by cross-entropy. Image features
    do not change. Cost of a step: one pass of the vision tower without gradient and one of the text tower over the K
    class names behind one shared start.

    Published (ViT-B/16, 16 shots, from ALIGN's Tables 1 and D.1): Caltech101 94.8, DTD 69.5, EuroSAT 84.1; base to new
    82.66 / 63.22 / 71.65, below CLIP on new classes. 8,192 trainable numbers at width 512.

    Parameters
    ----------
    length : m, learnable tokens.
    words : begin with these instead of at random, as many tokens as they have; ``length`` then has no say.
    class_specific : a context for every class.
    """

    title = "CoOp"
    paper = "Zhou et al., Learning to prompt for vision-language models, IJCV 2022, arXiv:2109.01134"

    length: Count = 16
    words: str | None = None
    class_specific: bool = False

    def _learner(self, towers: Towers, generator: Generator) -> PromptLearner:
        words = None if self.words is None else towers.text.words(self.words).cpu()
        length = self.length if words is None else len(words)
        classes = len(towers) if self.class_specific else None
        return PromptLearner(towers, textual(towers, length, generator, classes=classes, words=words), "{}.", length)

    def _class_axes(self) -> dict[str, int]:
        return {"text.00": 1} if self.class_specific else {}


@dataclass(kw_only=True, eq=False, repr=False)
class CoCoOp(PromptMethod):
    r"""Conditional context optimisation: a small network shifts the learned context for every image.

    .. math:: v_m(x) = v_m + h_\theta(f(x)), \qquad p(y = k \mid x) \propto \exp(\cos(f(x), g(t_k(x))) / \tau)

    with h = Linear, ReLU, Linear and a bottleneck of d/16. The text tower encodes B·K sentences a step, which is why
    the published batch is one image; what stands before the class name is encoded once an image.

    Published (ViT-B/16, base to new over 11 data sets, from ALIGN's Table 1): 80.47 / 71.69 / 75.83; from ImageNet
    to ten others 65.74. 35,360 trainable numbers.

    Parameters
    ----------
    words : what the context begins with, and so how many tokens it has.
    conditional : without, the network sees zeros in place of the image and its shift is the same for all.
    """

    title = "CoCoOp"
    paper = "Zhou et al., Conditional prompt learning for vision-language models, CVPR 2022, arXiv:2203.05557"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"same context for all images": {"conditional": False}}

    words: str = START
    conditional: bool = True
    epochs: Count = 10
    batch_size: Count = 1

    def _learner(self, towers: Towers, generator: Generator) -> ConditionalLearner:
        words, dim = towers.text.words(self.words).cpu(), towers.vision.dim
        prompts = ConditionalPrompts(len(words), towers.text.width, dim, words=words, generator=generator)
        return ConditionalLearner(towers, prompts, self.conditional)


class ConditionalLearner(PromptLearner):
    """The prompts of all classes depend on the image, so no class features are kept between images.

    Parameters
    ----------
    towers : the frozen encoder and the classes.
    prompts : context and network.
    conditional : whether the network sees the image.
    """

    state, restore = Learner.state, Learner.restore

    def __init__(self, towers: Towers, prompts: ConditionalPrompts, conditional: bool) -> None:
        super().__init__(towers, prompts, "{}.", prompts.text.length)
        self.conditional = conditional

    def classes(self) -> None:
        """Nothing is common to all images."""

    def scores(self, pixels: Tensor, classes: None) -> Tensor:
        """(B, K) scaled cosines, every image with the class texts of its own prompts."""
        images = self._frozen(pixels)
        texts = unit(self.read(self.sentences, self._contexts(images)).pooled.to(images.dtype))
        return self.towers.logit_scale * torch.einsum("bd,bkd->bk", images, texts)

    @torch.no_grad()
    def diagnose(self, data: ImageBatches) -> dict[str, Any]:
        """How much the context differs from image to image, over its mean length."""
        context = self._contexts(self._frozen(next(data.in_order(LOOKED_AT)).pixels))[0].flatten(1)
        spread = (context - context.mean(dim=0)).norm(dim=1).mean() / context.norm(dim=1).mean()
        return {"context_spread": spread.item()}

    def _frozen(self, pixels: Tensor) -> Tensor:
        """(B, d) unit image features, in the type of the network."""
        return unit(self.towers.vision(pixels).pooled[0].to(self.prompts.text.layers[0].dtype))

    def _contexts(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.prompts.prompts(images if self.conditional else torch.zeros_like(images)).text


@dataclass(kw_only=True, eq=False, repr=False)
class VPT(PromptMethod):
    r"""Visual prompt tuning: learnable tokens beside the patches; classes are the frozen features of their sentences.

    .. math::
        \text{deep:} \quad & [x_i, \_, E_i] = L_i([x_{i-1}, P_{i-1}, E_{i-1}]) \\
        \text{shallow:} \quad & [x_1, Z_1, E_1] = L_1([x_0, P, E_0]), \quad
            [x_i, Z_i, E_i] = L_i([x_{i-1}, Z_{i-1}, E_{i-1}])

    and :math:`p(y = k) \propto \exp(\cos(f(x; P), t_k) / \tau)` instead of the paper's linear head, as methods on CLIP
    compare it. The texts are computed once. The paper trains supervised backbones at other schedules; the default here
    is that of the other prompt methods.

    Published (CLIP ViT-B/16, from ALIGN's Table 3): ImageNet 70.57, ImageNet-V2 / Sketch / A / R
    63.67 / 47.66 / 43.85 / 74.42.

    Parameters
    ----------
    length : prompts a layer.
    deep : new prompts at every layer, not at the first alone.
    """

    title = "VPT"
    paper = "Jia et al., Visual prompt tuning, ECCV 2022, arXiv:2203.12119"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"first layer only": {"deep": False}}

    length: Count = 4
    deep: bool = True

    def _learner(self, towers: Towers, generator: Generator) -> PromptLearner:
        depth = towers.vision.depth if self.deep else 1
        vision = Prompts(self.length, towers.vision.width, depth=depth, generator=generator)
        return PromptLearner(towers, IndependentPrompts(vision=vision))


@dataclass(kw_only=True, eq=False, repr=False)
class UPT(PromptMethod):
    r"""Unified prompt tuning: one sequence, mixed by one small transformer block, becomes the prompts of both towers.

    .. math::
        U' = SA(U) + LN(U), \qquad \hat U = FFN(LN(U')) + LN(U'), \qquad [\hat U_t; \hat U_v] = \hat U

    and cosines as in CoOp. A saved model keeps the prompts that come out, not the block. Layers, width and start of the
    block are choices made here; the schedule is that of CoOp.

    Published (ViT-B/16, 16 shots, from ALIGN's Tables 3 and D.1): Caltech101 95.95, DTD 70.62, EuroSAT 90.77;
    ImageNet 72.63.

    Parameters
    ----------
    length : tokens a side.
    depth : layers with prompts of their own, at most those of the shallower tower.
    width : of the block.
    """

    title = "UPT"
    paper = "Zang et al., Unified vision and language prompt learning, 2022, arXiv:2210.07225"

    length: Count = 4
    depth: Count = 1
    width: Count = 128

    def _learner(self, towers: Towers, generator: Generator) -> PromptLearner:
        widths = towers.text.width, towers.vision.width
        depth = fitting_depth(self.depth, towers)
        prompts = JointPrompts((self.length, self.length), *widths, width=self.width, depth=depth, generator=generator)
        return PromptLearner(towers, prompts, "{}.", self.length)


@dataclass(kw_only=True, eq=False, repr=False)
class MaPLe(PromptMethod):
    r"""Multi-modal prompt learning: textual prompts at several layers, visual ones as linear images of them.

    .. math:: \tilde P_i = F_i(P_i), \qquad p(y = k) \propto \exp(\cos(f(x; \tilde P), g(t_k; P)) / \tau)

    for the layers i < depth, the first textual prompts starting as "a photo" before "of a {class}.". Saved are the
    prompts of both sides, not the maps F, which are nearly all of the 3,555,072 trainable numbers at ViT-B/16.

    Published (ViT-B/16): base to new over 11 data sets 82.28 / 75.14 / 78.55; from ImageNet to ten others 66.30.

    Parameters
    ----------
    length : tokens a side and layer. More than four all start at random.
    depth : layers with prompts of their own, at most those of the shallower tower.
    coupled : without, visual prompts are drawn and learned on their own.
    """

    title = "MaPLe"
    paper = "Khattak et al., MaPLe: multi-modal prompt learning, CVPR 2023, arXiv:2210.03117"
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"sides not coupled": {"coupled": False}}

    length: Count = 2
    depth: Count = 9
    coupled: bool = True
    epochs: Count = 5
    batch_size: Count = 4
    learning_rate: NonNegative = 0.0035

    def _learner(self, towers: Towers, generator: Generator) -> PromptLearner:
        depth = fitting_depth(self.depth, towers)
        words, sentence = start(towers.text, self.length)
        text = Prompts(self.length, towers.text.width, depth=depth, words=words, generator=generator)
        if self.coupled:
            return PromptLearner(towers, projected(text, towers, generator), sentence, self.length)
        vision = Prompts(self.length, towers.vision.width, depth=depth, generator=generator)
        return PromptLearner(towers, IndependentPrompts(text, vision), sentence, self.length)


@dataclass(kw_only=True, eq=False, repr=False)
class PLOT(PromptMethod):
    r"""Prompt learning with optimal transport: N textual prompts a class against the patches of an image.

    .. math:: d_k = \min_T \langle T, 1 - \cos(r_j, h^n_k) \rangle - \lambda h(T), \qquad
        p(y = k) \propto \exp((1 - d_k) / \tau)

    with uniform masses over the J patches r and the N prompts h. The plan is a constant in the backward pass, which is
    the envelope theorem. ``diagnosis_`` says whether it does anything: its entropy over that of a uniform plan.

    Published (ViT-B/16, 16 shots, from ALIGN's Tables 1 and D.1): Caltech101 93.24, DTD 70.52, EuroSAT 83.12; base to
    new 77.20 / 60.38 / 67.76.

    Parameters
    ----------
    prompts : N, contexts of a class.
    length : learnable tokens a context.
    words : begin all contexts with these, N(0, 0.02²) apart, as many tokens as they have; ``length`` then has no say.
    epsilon : λ, strength of the entropy.
    plan : a uniform plan in place of transport, as a control.
    sweeps : of Sinkhorn's algorithm at most.
    """

    title = "PLOT"
    paper = (
        "Chen et al., PLOT: prompt learning with optimal transport for vision-language models, 2023, arXiv:2210.01253"
    )
    ablations: ClassVar[dict[str, dict[str, Any]]] = {"uniform plan": {"plan": "uniform"}}

    prompts: Count = 4
    length: Count = 16
    words: str | None = None
    epsilon: Positive = 0.1
    plan: PlanKind = "transport"
    sweeps: Count = 100

    def _learner(self, towers: Towers, generator: Generator) -> PlotLearner:
        words, length = None, self.length
        if self.words is not None:
            words = towers.text.words(self.words).cpu()
            length = len(words)
            words = words + STD * torch.randn(self.prompts, *words.shape, generator=generator)
        prompts = textual(towers, length, generator, sets=self.prompts, words=words)
        return PlotLearner(towers, prompts, length, self)

    @torch.no_grad()
    def explain(self, items: Items, encoder: ClipEncoder, label: int | str | None = None) -> PatchPlans:
        """Which patches of an image the prompts of a class take.

        Parameters
        ----------
        items : its first image is looked at.
        encoder : the one it was fitted on.
        label : the class, by index or name; by default the one it names.
        """
        check_is_fitted(self)
        learner, classes = self._bind(encoder)
        pixels, image = one_image(items, encoder)
        k = chosen_class(label, self.class_names_, learner.scores(pixels, classes)[0])
        patches = learner.look(pixels, tokens=True).tokens[0, 0, 1:]
        maps = prompt_plan(patches, classes[:, k], self.epsilon)
        return PatchPlans(image=image, class_name=self.class_names_[k], prompts=grid(maps))


class PlotLearner(PromptLearner):
    """PLOT's prompts and its transport to the patches.

    Parameters
    ----------
    towers : the frozen encoder and the classes.
    prompts : sets of the text tower.
    length : learnable tokens a context.
    settings : hyper-parameters.
    """

    def __init__(self, towers: Towers, prompts: nn.Module, length: int, settings: PLOT) -> None:
        super().__init__(towers, prompts, "{}.", length)
        self.settings = settings

    def transport(self, pixels: Tensor, classes: Tensor) -> PromptTransport:
        """Distances between pictures (B, 3, H, W) and classes (N, K, d)."""
        own = self.settings
        patches = self.look(pixels, tokens=True).tokens[0, :, 1:]
        return prompt_transport(
            patches, classes.transpose(0, 1), epsilon=own.epsilon, plan=own.plan, max_sweeps=own.sweeps
        )

    def scores(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """(B, K) scaled 1 − d."""
        return self.towers.logit_scale * self.transport(pixels, classes).scores

    @torch.no_grad()
    def diagnose(self, data: ImageBatches) -> dict[str, Any]:
        """Entropy of the plans over that of uniform ones, and the worst marginal error."""
        classes = self.classes()
        found = self.transport(next(data.in_order(LOOKED_AT)).pixels, classes).alignment
        most = torch.tensor(float(self.towers.vision.patches * len(classes))).log()
        return {
            "plan_entropy": (found.entropy.mean() / most).item(),
            "marginal_error": found.marginal_error.amax().item(),
        }
