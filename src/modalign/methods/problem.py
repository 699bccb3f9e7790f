"""What a method on vectors learns from, after everything that users bring was read and checked."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from modalign.labels import UNLABELLED
from modalign.linalg.prototypes import class_means, text_prototypes


@dataclass(frozen=True)
class Problem:
    """What a method is asked to learn from; all tensors float32 on one device, vectors of the length they came with.

    Methods look at directions only, so that the scale of the vectors makes no difference.

    Attributes
    ----------
    X : (n, d) image vectors.
    y : (n,) class indices in 0…C−1, −1 = unlabelled.
    n_classes : C.
    text : (C, T, d) class-text vectors, zero rows where a class has fewer than T sentences; None without text.
    anchor : (n, a) the language-aligned view of the same images, or None.
    validation : (X, y) held out for choosing hyper-parameters, or None.
    parts : (n, N, d) vectors of crops or patches of the same images, for methods that take them; else None.
    logit_scale : trained inverse temperature of the encoder of the text, None if there is no text or it is unknown.
    ids : the n names of the images, one for all views of an image; None where they have none.
    """

    X: Tensor
    y: Tensor
    n_classes: int
    text: Tensor | None
    anchor: Tensor | None
    validation: tuple[Tensor, Tensor] | None
    parts: Tensor | None = None
    logit_scale: float | None = None
    ids: tuple[str, ...] | None = None

    def labelled(self) -> tuple[Tensor, Tensor]:
        """The rows of ``X`` that have a label, and their labels."""
        known = self.y != UNLABELLED
        return self.X[known], self.y[known]

    def prototypes(self) -> Tensor:
        """(C, d) unit class prototypes: the mean text direction, or the class means where there is no text."""
        if self.text is not None:
            return text_prototypes(self.text)
        return class_means(*self.labelled(), self.n_classes)
