"""Graphs of class structures as sentences with relations between tokens, for attention biases.

A structure file of HPT has a few graphs per class: entities, attributes, and which of them are related. A graph is
written as the sentence "class, entity, …, attribute, ….", with the pairs of tokens that belong to related nodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modalign.data.text.descriptions import Structure, read_structures, readable
from modalign.encoders.towers.vision_tower import Sentences, TextTower

ENTITIES, ATTRIBUTES = 0, 1  # the two kinds of relations: between entities, of an entity to an attribute
_MOST = 255  # relations counted between two tokens


@dataclass(frozen=True, eq=False)
class Topology:
    """G sentences for each of K classes, and the relations among the tokens of each.

    Attributes
    ----------
    sentences : callable
        K · G of them, those of a class next to each other.
    relations : Tensor or None
        Tensor of shape (2, K · G, L, L) or None uint8. on the CPU: how many relations between two entities, and between
        an entity and an attribute, a pair of positions takes part in; symmetric. None without graphs.
    graphs : int
        G; a class with fewer graphs than another repeats its own.
    summary : dict of str to int
        Numbers of ``relations`` among the tokens, of relations left out because an end is no node of the graph, and of
        nodes left out because the context is full.
    fingerprint : str
        Hash of the sentences and relations.
    """

    sentences: Sentences
    relations: Tensor | None
    graphs: int
    summary: dict[str, int]
    fingerprint: str

    def pick(self, graphs: Tensor | int) -> tuple[Sentences, Tensor | None]:
        """One graph per class.

        Parameters
        ----------
        graphs : Tensor or int
            Tensor of shape (K,) or int int64. on the CPU, or one number for all classes, in 0 … G − 1.

        Returns
        -------
        tuple of (callable, Tensor or None)
            K sentences and their relations (2, K, L, L), L their longest.
        """
        all_ids, all_ends, texts = self.sentences.ids, self.sentences.ends, self.sentences.texts
        rows = torch.arange(0, len(all_ids), self.graphs) + graphs
        ends = all_ends[rows]
        L = int(ends.max()) + 1
        sentences = Sentences(all_ids[rows, :L], ends, self.sentences.slots, tuple(texts[i] for i in rows.tolist()))
        return sentences, None if self.relations is None else self.relations[:, rows, :L, :L]


def read_topology(
    file: str | None, tower: TextTower, class_names: Sequence[str], slots: int, *, ending: str = "."
) -> Topology:
    """The graphs of a structure file for a text tower; without a file one sentence "class." per class.

    Nodes with the same name, whatever their case, are one node, and one with the name of the class is the class name
    itself, which opens the sentence. Nodes that do not fit into the context are left out, last first.

    Parameters
    ----------
    file : str or None
        HPT's layout, see :func:`modalign.data.text.descriptions.read_structures`; or None.
    tower : TextTower
        Tower with the tokenizer and the context length.
    class_names : sequence of str
        K.
    slots : int
        Placeholders for prompts in every sentence.
    ending : str, default="."
        End of the sentences.

    Raises
    ------
    InputError
        The file cannot be read or lacks a class; a class name does not fit into the context.
    """
    names = [readable(name) for name in class_names]
    plain = tower.tokenize([name + ending for name in names], slots)
    if file is None:
        return Topology(plain, None, 1, {"relations": 0}, _digest(plain, ()))
    structures = read_structures(file, class_names)
    G = max(map(len, structures))
    graphs = [_Graph(name, own[i % len(own)]) for name, own in zip(names, structures, strict=True) for i in range(G)]
    tokens = _tokens_of(tower, {text for graph in graphs for text in graph.nodes} | {",", ending})
    laid = [graph.lay_out(tokens, slots, tower.context_length, ending) for graph in graphs]
    sentences = _stack(laid, plain, slots)
    L = sentences.ids.shape[1]
    relations = torch.zeros(2, len(graphs), L, L, dtype=torch.uint8)
    counts = {"relations": 0, "relations_left_out": 0, "nodes_left_out": 0}
    for row, (graph, (_, places, _)) in enumerate(zip(graphs, laid, strict=True)):
        counts["nodes_left_out"] += len(graph.nodes) - len(places)
        for kind, one, other in graph.relations:
            if one not in places or other not in places:
                counts["relations_left_out"] += 1
                continue
            counts["relations"] += 1
            _relate(relations[kind, row], places[one], places[other])
    return Topology(sentences, relations, G, counts, _digest(sentences, relations.nonzero().tolist()))


class _Graph:
    """One graph with its nodes by name, the class name first."""

    def __init__(self, name: str, structure: Structure) -> None:
        nodes: dict[str, str] = {}
        for node in (name, *structure.entities, *structure.attributes):
            if node.strip():
                nodes.setdefault(_key(node), " ".join(node.split()))
        self.nodes = tuple(nodes.values())
        pairs = [(ENTITIES, one, other) for one, _, other in structure.relations]
        pairs += [(ATTRIBUTES, entity, attribute) for entity, _, attribute in structure.attribute_relations]
        self.relations = [(kind, _key(one), _key(other)) for kind, one, other in pairs]

    def lay_out(
        self, tokens: dict[str, list[int]], slots: int, context: int, ending: str
    ) -> tuple[list[int], dict[str, range], str]:
        """Token numbers between start and end, the positions of every node that fits, and the sentence."""
        comma, end = tokens[","], tokens[ending]
        ids: list[int] = []
        places: dict[str, range] = {}
        for node in self.nodes:
            more = [*(comma if ids else ()), *tokens[node]]
            if 1 + slots + len(ids) + len(more) + len(end) + 1 > context:
                break
            ids += more
            stop = 1 + slots + len(ids)
            places[_key(node)] = range(stop - len(tokens[node]), stop)
        return ids + end, places, ", ".join(self.nodes[: len(places)]) + ending


def _key(node: str) -> str:
    return " ".join(node.casefold().split())


def _tokens_of(tower: TextTower, texts: Iterable[str]) -> dict[str, list[int]]:
    """The token numbers of each text alone, which are those it has between blanks and punctuation."""
    ordered = sorted(texts)
    found = tower.tokenize(ordered, cut=True)
    rows = zip(ordered, found.ids.tolist(), found.ends.tolist(), strict=True)
    return {text: ids[1:end] for text, ids, end in rows}


def _stack(laid: Sequence[tuple[list[int], dict[str, range], str]], plain: Sentences, slots: int) -> Sentences:
    """Start, placeholders and end put around the tokens; the marks are those of ``plain``."""
    start, end = int(plain.ids[0, 0]), int(plain.ids[0, plain.ends[0]])
    rows = [[start] * (1 + slots) + ids + [end] for ids, _, _ in laid]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [end] * (longest - len(row)) for row in rows])
    return Sentences(ids, torch.tensor([len(row) - 1 for row in rows]), slots, tuple(text for _, _, text in laid))


def _relate(counts: Tensor, one: range, other: range) -> None:
    """One relation more between all tokens of two nodes, in both directions."""
    for a, b in ((one, other), (other, one)):
        block = counts[a.start : a.stop, b.start : b.stop]
        block += block < _MOST


def _digest(sentences: Sentences, relations: object) -> str:
    content = repr((sentences.ids.tolist(), sentences.ends.tolist(), relations))
    return hashlib.sha256(content.encode()).hexdigest()
