"""A data set with its encoders: images or image vectors, labels, official lists, class text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from modalign.core.errors import InputError, argument
from modalign.core.features import UNLABELED, ClassText, Features
from modalign.data.items import Items
from modalign.data.names import distinct
from modalign.data.splits.benchmarks import in_sentences
from modalign.data.splits.drawing import draw_split, few_shot
from modalign.data.splits.split import EMPTY, Split
from modalign.data.text.descriptions import class_sentences
from modalign.data.text.sentence_files import SentenceFiles
from modalign.data.text.templates import DEFAULT_TEMPLATE
from modalign.encoders.joined import JoinedEncoder
from modalign.evaluate.runs import Shots

if TYPE_CHECKING:
    from modalign.encoders.base import Encoder
    from modalign.encoders.clip import ClipEncoder

FEATURES = "features"  # in place of the name of an encoder


@dataclass(frozen=True, eq=False)
class BenchmarkSet:
    """One data set.

    Attributes
    ----------
    name : str
        As in :data:`~modalign.data.splits.benchmarks.DATASETS`, or the name of the file or folder.
    labels : ndarray of shape (n,)
        Index of the class of every image; -1 where unknown.
    class_names : tuple of str
        C different names.
    official : Split
        Train, validation and test lists.
    shot_lists : mapping of int to ndarray
        Labeled images per class → the training rows of a few-shot set that comes with the data. Then nothing is drawn
        for these numbers but the validation images.
    encoder : Encoder, optional
        Encoder of the images.
    clip_encoder : Encoder, optional
        Encoder of the class text where ``encoder`` has no text tower.
    items : Items, optional
        The images; None where there are only vectors.
    given : Features, optional
        The vectors of all n rows; None where they are still to be computed from the images.
    given_text : ClassText, optional
        Class text that comes with the vectors.
    given_clip : Features, optional
        The same rows as ``given`` in the space of the text, where that is another one.
    templates : sequence of str, optional
        The sentences for the class names, for an encoder with a text tower; None for those of the files alone.
    sentence_files : SentenceFiles, optional
        Sentences of a language model.
    notes : tuple of str
        Messages about the data.
    """

    name: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    official: Split
    shot_lists: Mapping[int, np.ndarray] = field(default_factory=dict)
    encoder: Encoder | JoinedEncoder | None = None
    clip_encoder: Encoder | None = None
    items: Items | None = None
    given: Features | None = None
    given_text: ClassText | None = None
    given_clip: Features | None = None
    templates: Sequence[str] | None = (DEFAULT_TEMPLATE,)
    sentence_files: SentenceFiles | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of_images(
        cls,
        name: str,
        items: Items,
        official: Split | None,
        encoder: Encoder | JoinedEncoder,
        templates: Sequence[str] | None,
        sentence_files: SentenceFiles | None = None,
        clip_encoder: Encoder | None = None,
    ) -> BenchmarkSet:
        """Images with their official lists; where there are none, with lists drawn once (50, 20 and 30 % per class)."""
        lists = draw_split(items) if official is None else official
        return cls(name, items.labels, distinct(items.class_names), lists, encoder=encoder, clip_encoder=clip_encoder,
                   items=items, templates=templates, sentence_files=sentence_files, notes=items.notes)  # fmt: skip

    @property
    def encoder_name(self) -> str:
        """Name of the encoder of the images; ``"features"`` for vectors of an unknown one."""
        spec = None if self.given is None else self.given.spec
        return self.encoder.name if self.encoder is not None else FEATURES if spec is None else spec.name

    @property
    def language(self) -> Encoder | None:
        """Encoder of the class text, None where the encoder of the images is unknown or has no text tower."""
        if self.clip_encoder is not None:
            return self.clip_encoder
        found = self.encoder.language if isinstance(self.encoder, JoinedEncoder) else self.encoder
        return found if found is not None and found.has_text else None

    @cached_property
    def text_alone(self) -> BenchmarkSet:
        """The same data with the encoder of the class text alone, for methods in one space of images and text.

        The set itself where images and text are in one space, or there is no text.
        """
        if self.given_clip is not None:
            return replace(self, given=self.given_clip, given_clip=None)
        if self.language is None or self.language is self.encoder:
            return self
        return replace(self, encoder=self.language, clip_encoder=None)

    @property
    def sentences_from(self) -> str:
        """Name of the files of a language model that the sentences are from; ``""`` for templates."""
        return "" if self.sentence_files is None else self.sentence_files.source

    @property
    def source(self) -> str:
        """``images`` or ``features``."""
        return "features" if self.items is None else "images"

    def draw(self, shots: Shots, seed: int) -> Split:
        """The images to learn from, to choose on and to test on; see :func:`~modalign.few_shot`."""
        if shots not in self.shot_lists:
            return few_shot(self.labels, shots, seed, official=self.lists, class_names=self.class_names)
        of_validation = Split(self.official.validation, EMPTY, self.official.test)
        validation = few_shot(self.labels, min(int(shots), 4), seed, validation_shots=0, official=of_validation).train
        return replace(
            self.official,
            train=self.shot_lists[int(shots)],
            validation=validation,
            unlabeled=np.setdiff1d(self.official.unlabeled, validation),
            seed=seed,
            description=f"the data's own {shots} shots per class",
        )

    @property
    def lists(self) -> Split:
        """The official lists; where they have no training images, the longest of :attr:`shot_lists` is the list.

        Raises
        ------
        InputError
            There are no labeled images to learn from.
        """
        if len(self.official.train):
            return self.official
        if not self.shot_lists:
            raise InputError(
                f"Expected a train list in data set '{self.name}', it has none; name a data set with one first in "
                f"{argument('datasets')}."
            )
        return replace(self.official, train=self.shot_lists[max(self.shot_lists)])

    @property
    def as_target(self) -> np.ndarray:
        """(m,) rows to test a method on that learned from another data set: all labeled ones if lists were drawn."""
        drawn = self.official.seed is not None
        return np.flatnonzero(self.labels != UNLABELED) if drawn else self.official.test

    @cached_property
    def class_text(self) -> ClassText | None:
        """Text vectors of all classes in order, None where neither the data nor the encoder has any."""
        if self.given_text is not None:
            return self.given_text.select(self.class_names)
        if self.language is None:
            return None
        raw = in_sentences(self.name, self.class_names if self.items is None else self.items.class_names)
        described = None if self.sentence_files is None else self.sentence_files.descriptions
        return self.language.embed_texts(class_sentences(raw, self.templates, described), class_names=self.class_names)

    def text_of(self, classes: np.ndarray) -> ClassText | None:
        """Text vectors of some classes, in that order."""
        text = self.class_text
        return None if text is None else text.select([self.class_names[c] for c in classes])

    @cached_property
    def vectors(self) -> Features:
        """Vectors of the images that can be decoded; :attr:`places` has their rows."""
        return self._spaces[0]

    @property
    def clip_vectors(self) -> Features | None:
        """The same images in the space of the class text; None where :attr:`vectors` are in it, or there is no text."""
        return self._spaces[1]

    @cached_property
    def mirrored(self) -> Features | None:
        """The same of the mirrored images, None where there are only vectors."""
        return None if self.items is None else self._embedded("mirror")[0]

    @cached_property
    def places(self) -> np.ndarray:
        """(n,) row of every image in :attr:`vectors`; -1 for one that cannot be decoded."""
        if self.items is None:
            return np.arange(len(self.labels))
        row = {name: i for i, name in enumerate(self.vectors.ids)}
        return np.array([row.get(name, -1) for name in self.items.ids], dtype=np.int64)

    @cached_property
    def _spaces(self) -> tuple[Features, Features | None]:
        return self._embedded("center")

    def _embedded(self, view: str) -> tuple[Features, Features | None]:
        """Vectors of the images, and those in the space of the text where that is another one."""
        if self.given is not None:
            return self.given, self.given_clip
        assert self.items is not None
        assert self.encoder is not None
        alone, language = self.text_alone is self, self.language
        parts = self.encoder.parts if isinstance(self.encoder, JoinedEncoder) else (self.encoder,)
        both = self.encoder if alone or language in parts else JoinedEncoder([*parts, *filter(None, [language])])
        found = replace(both.embed_images(self.items, view=view), class_names=self.class_names)
        if alone or language is None or not isinstance(both, JoinedEncoder):
            return found, None
        return (found if both is self.encoder else both.part_of(found, self.encoder)), both.part_of(found, language)

    @cached_property
    def named_items(self) -> Items:
        """The images with class names that differ from each other."""
        assert self.items is not None
        return replace(self.items, class_names=self.class_names)

    @property
    def clip(self) -> ClipEncoder:
        """The encoder, for methods that learn inside it."""
        assert self.encoder is not None
        return cast("ClipEncoder", self.encoder)  # each method raises for encoders that it does not support
