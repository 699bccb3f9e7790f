"""Prompts of classes from templates and from description files of language models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modalign.core.display import is_encodable
from modalign.core.errors import InputError, UnknownNameError, argument
from modalign.core.files import read_json
from modalign.data.indefinite_articles import with_article
from modalign.data.names import did_you_mean, match_names, normalize, quoted
from modalign.data.text.lint import NameWarning, lint, lint_notes
from modalign.data.text.templates import DEFAULT_TEMPLATE, TEMPLATES


def sentences(
    class_names: Sequence[str],
    templates: str | Sequence[str] = DEFAULT_TEMPLATE,
    *,
    grammatical: bool = False,
) -> list[list[str]]:
    """Return the prompts of each class, in the order of the templates.

    Underscores in a name become blanks, as in the published prompts; names are not changed otherwise.

    Parameters
    ----------
    class_names : sequence of str
        C names.
    templates : str or sequence of str, default=DEFAULT_TEMPLATE
        One or several templates with ``{}`` for the name, or a key of :data:`TEMPLATES` such as ``"imagenet"``.
    grammatical : bool, default=False
        Write "an owl" and "scissors" where a template has "a {}". Off by default, because the published numbers were
        measured with "a owl" and "a scissors".

    Returns
    -------
    list of list of str
        C lists of T sentences.
    """
    patterns = resolve_templates(templates)
    names = [readable(name) for name in class_names]
    return [[_fill(pattern, name, grammatical) for pattern in patterns] for name in names]


def class_sentences(
    class_names: Sequence[str],
    templates: str | Sequence[str] | None = None,
    descriptions: str | Path | Mapping[str, Any] | None = None,
) -> list[list[str]]:
    """Return the prompts of each class from templates, a description file, or both.

    Parameters
    ----------
    class_names : sequence of str
        C names.
    templates : str, sequence of str or None, default=None
        As for :func:`sentences`. Default without descriptions: :data:`DEFAULT_TEMPLATE` with the grammatical article,
        which published results do not use.
    descriptions : str, Path, mapping or None, default=None
        As for :func:`read_descriptions`; prompts of templates come first.
    """
    if descriptions is None:
        if templates is None:
            return sentences(class_names, DEFAULT_TEMPLATE, grammatical=True)
        return sentences(class_names, templates)
    described = read_descriptions(descriptions, class_names)
    if templates is None:
        return described
    return [[*named, *own] for named, own in zip(sentences(class_names, templates), described, strict=True)]


def sentence_notes(
    class_names: Sequence[str],
    templates: str | Sequence[str] | None = None,
    descriptions: str | Path | Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Return notes for the user on the prompts of :func:`class_sentences` with the same arguments."""
    notes: tuple[str, ...] = ()
    if descriptions is not None:
        known = _read(descriptions)
        loose = [
            f"'{name}' by those of '{other}'"
            for name, other in match_names(class_names, known, plural=True).items()
            if normalize(name) != normalize(other)
        ]
        if loose:
            more = f" and {len(loose) - 3} more" if len(loose) > 3 else ""
            notes = (
                f"classes are described in {_place(descriptions)} under another spelling: {', '.join(loose[:3])}{more}",
            )
        if templates is None:
            return notes
    patterns = " ".join(resolve_templates(DEFAULT_TEMPLATE if templates is None else templates))
    return (*notes, *lint_notes(class_names, numbers=re.search(r"\b(digit|number|numeral)s?\b", patterns) is not None))


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Return templates by key, from one string or a list, and check that each contains one ``{}``."""
    if isinstance(templates, str):
        if "{" not in templates:
            key = normalize(templates).replace(" ", "_")
            if key not in TEMPLATES:
                raise UnknownNameError("template", templates, TEMPLATES, "A template of your own has {} for the name.")
            return TEMPLATES[key]
        templates = (templates,)
    if not isinstance(templates, Iterable):
        raise InputError(f"Expected {argument('templates')} as sentences with {{}} or a name, got {templates!r}.")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise InputError(f"Expected a template with {{}} once, where the class name goes, got {template!r}.")
        if not is_encodable(template):
            raise InputError(
                f"Expected templates that UTF-8 can hold, got {template!r:.60}, which has half of a surrogate pair."
            )
    if not templates:
        raise InputError("Expected at least one template, got none.")
    return tuple(templates)


def readable(name: str) -> str:
    """Replace underscores in a class name by blanks."""
    return " ".join(name.replace("_", " ").split())


def read_descriptions(file: str | Path | Mapping[str, Any], class_names: Sequence[str]) -> list[list[str]]:
    """Read class descriptions of a language model: CuPL's files and HPT's ``description`` files.

    Both are JSON objects, class name → list of sentences; such a mapping is taken as well. Names are matched by
    :func:`~modalign.core.name_matching.match_names`, which ignores a plural s, so that the folders of Caltech-101 match
    CoOp's names. Other classes in the file are ignored.

    Returns
    -------
    list of list of str
        C lists, in the order of ``class_names``, each with at least one sentence.

    Raises
    ------
    InputError
        Classes are missing in the file; the message suggests the nearest names.
    """
    found = _by_class(file, class_names)
    result = []
    for name, value in zip(class_names, found, strict=True):
        lines = [value] if isinstance(value, str) else value
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise InputError(f"Expected a list of sentences for '{name}' in {_place(file)}, got {_shape(value)}.")
        lines = [" ".join(line.split()) for line in lines if line.strip()]
        if not lines:
            raise InputError(f"Expected at least one sentence for '{name}' in {_place(file)}, got none.")
        result.append(lines)
    return result


@dataclass(frozen=True)
class Structure:
    """Graph of visual entities and attributes of a class, from an HPT ``structure`` file.

    Attributes
    ----------
    entities, attributes : tuple of str
        The nodes.
    relations : tuple of tuple of (str, str, str)
        (entity, relationship, entity).
    attribute_relations : tuple of tuple of (str, str, str)
        (entity, relationship, attribute), as in the file: an end of a relation may be missing in the nodes.
    """

    entities: tuple[str, ...]
    attributes: tuple[str, ...]
    relations: tuple[tuple[str, str, str], ...]
    attribute_relations: tuple[tuple[str, str, str], ...]


def read_structures(file: str | Path, class_names: Sequence[str]) -> list[list[Structure]]:
    """Read the graphs of each class from an HPT ``structure`` file, in the order of ``class_names``.

    The file is a JSON object, class name → list of objects with ``Entities``, ``Attributes``, ``Entity-to-Entity
    Relationships`` and ``Entity-to-Attribute Relationships``. Source: Wang et al., Learning Hierarchical Prompt with
    Structured Linguistic Knowledge for Vision-Language Models, AAAI 2024.
    """
    found = _by_class(file, class_names, "structures")
    result = []
    for name, graphs in zip(class_names, found, strict=True):
        if not isinstance(graphs, list) or not graphs:
            raise InputError(f"Expected a list of graphs for '{name}' in {_place(file)}, got {_shape(graphs)}.")
        result.append(
            [_structure(graph, f"graph {i + 1} of '{name}' in {_place(file)}") for i, graph in enumerate(graphs)]
        )
    return result


def _structure(graph: Any, where: str) -> Structure:
    if not isinstance(graph, dict):
        raise InputError(f"Expected an object in {where}, got {_shape(graph)}.")

    def nodes(key: str) -> tuple[str, ...]:
        value = graph.get(key)
        if not isinstance(value, list) or not all(isinstance(node, str) for node in value):
            raise InputError(f"Expected a list of texts '{key}' in {where}, got {_shape(value)}.")
        return tuple(value)

    def edges(key: str, ends: tuple[str, str, str]) -> tuple[tuple[str, str, str], ...]:
        value = graph.get(key)
        if not isinstance(value, list):
            raise InputError(f"Expected a list '{key}' in {where}, got {_shape(value)}.")
        for edge in value:
            if not isinstance(edge, dict) or not all(isinstance(edge.get(end), str) for end in ends):
                raise InputError(f"Expected {quoted(ends)} in every entry of '{key}' in {where}, got {edge!r}.")
        return tuple((edge[ends[0]], edge[ends[1]], edge[ends[2]]) for edge in value)

    return Structure(
        nodes("Entities"),
        nodes("Attributes"),
        edges("Entity-to-Entity Relationships", ("entity1", "relationship", "entity2")),
        edges("Entity-to-Attribute Relationships", ("entity", "relationship", "attribute")),
    )


def _place(file: str | Path | Mapping[str, Any]) -> str:
    return "the given mapping" if isinstance(file, Mapping) else f"'{file}'"


def _read(file: str | Path | Mapping[str, Any], kind: str = "descriptions") -> Any:
    if isinstance(file, Mapping):
        return file
    if not isinstance(file, (str, Path)):
        raise InputError(f"Expected {argument(kind)} as a JSON file or a mapping, got {type(file).__name__}.")
    return read_json(file, f"a JSON file of {kind}")


def _by_class(
    file: str | Path | Mapping[str, Any], class_names: Sequence[str], kind: str = "descriptions"
) -> list[Any]:
    """The value of every class in a JSON object keyed by class name."""
    content = _read(file, kind)
    if not isinstance(content, Mapping):
        raise InputError(f"Expected an object class name → {kind} in {_place(file)}, got {_shape(content)}.")
    matched = match_names(class_names, content, plural=True)
    missing = [name for name in class_names if name not in matched]
    if missing:
        raise InputError(
            f"Expected {kind} of all {len(class_names)} classes in {_place(file)}, got none of {quoted(missing)}."
            + did_you_mean(missing[0], content)
        )
    return [content[matched[name]] for name in class_names]


def _fill(pattern: str, name: str, grammatical: bool) -> str:
    return (with_article(pattern, name) if grammatical else pattern).replace("{}", name)


def _shape(value: Any) -> str:
    if value is None:
        return "nothing"
    return "an empty list" if value == [] else f"{type(value).__name__} {str(value)[:40]!r}"


__all__ = [
    "DEFAULT_TEMPLATE",
    "TEMPLATES",
    "NameWarning",
    "Structure",
    "class_sentences",
    "lint",
    "read_descriptions",
    "read_structures",
    "readable",
    "resolve_templates",
    "sentence_notes",
    "sentences",
]
