"""A run of the benchmark as a line of a results file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from modalign.core.files import append_line
from modalign.evaluate.result_files import parse_entries, read_lines
from modalign.evaluate.runs import Run, labels_per_class

_FAMILY, _VERSION = "modalign-bench", 1


@dataclass(frozen=True)
class BenchmarkRun:
    """One method fitted once on a task and tested once on one of its parts.

    Attributes
    ----------
    protocol, dataset, part : str
        Training data, and tested part: ``"test"``, ``"base"``, ``"new"`` or the name of a data set.
    encoder : str
        Its name, ``"features"`` where vectors were given.
    settings : str
        ``"default"`` or ``"paper"``.
    imbalance : float, optional
        Of the long-tail protocol.
    per_class : int, optional
        Unlabeled training images per class; None: all.
    transductive : bool
        Whether the method was fitted on the tested images, without their labels.
    cpu_seconds : float
        Processor time of the fit, all threads together.
    run : Run
        The outcome.
    sentences : str
        Name of the files of a language model that the sentences were from; ``""`` for templates.
    clip_encoder : str
        Encoder of the class text where ``encoder`` has no text; ``""`` where it has.
    templates : tuple of str
        Templates that were given in place of the published ones.
    """

    protocol: str
    dataset: str
    part: str
    encoder: str
    settings: str
    imbalance: float | None
    per_class: int | None
    transductive: bool
    cpu_seconds: float
    run: Run
    sentences: str = ""
    clip_encoder: str = ""
    templates: tuple[str, ...] = ()

    @property
    def prompts(self) -> str:
        """What the class text was made from, in words; ``""`` for published templates."""
        named = [f"sentences of '{self.sentences}'"] if self.sentences else []
        return " and ".join([*named, *(f"'{one}'" for one in self.templates)])

    @property
    def encoders(self) -> str:
        """Encoder of the images, and that of the class text where it is another one."""
        return f"{self.encoder} with text of {self.clip_encoder}" if self.clip_encoder else self.encoder

    @property
    def key(self) -> tuple[object, ...]:
        """Identity of the run without its results; a run with the same key is not repeated."""
        return (self.protocol, self.dataset, self.part, self.settings, self.imbalance, self.per_class, *self.run.key)

    @property
    def drawn(self) -> str:
        """Number of training images that were requested, as text."""
        if self.imbalance is not None:
            return f"imbalance {self.imbalance:g}"
        if self.per_class is not None:
            return f"{self.per_class} unlabeled images per class"
        return labels_per_class(self.run.shots)

    def to_json(self) -> str:
        """One line."""
        content = {name: value for name, value in asdict(self).items() if name != "run"}
        return json.dumps(
            content | {"format": f"{_FAMILY}-{_VERSION}", "run": json.loads(self.run.to_json())}, ensure_ascii=False
        )

    @classmethod
    def from_json(cls, line: str) -> BenchmarkRun:
        """Parse the result of :meth:`to_json`; a ValueError, KeyError or TypeError for other lines."""
        content = parse_entries(line, _FAMILY, _VERSION)
        run = Run.from_json(json.dumps(content["run"]))
        templates = content.get("templates", [])
        if not isinstance(templates, list):
            raise TypeError("templates is not a list")
        return cls(**content | {"run": run, "templates": tuple(templates)})


def append_benchmark_run(path: str | Path, run: BenchmarkRun) -> None:
    """Add a line to a results file, which several processes may share."""
    append_line(path, run.to_json().encode())


def read_benchmark_runs(path: str | Path) -> list[BenchmarkRun]:
    """All runs of a results file; see :func:`~modalign.evaluate.result_files.read_lines`."""
    return read_lines(path, BenchmarkRun.from_json)
