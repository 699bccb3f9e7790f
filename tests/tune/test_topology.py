"""Graphs as sentences and relations: by hand, against the tokenizer of the whole sentence, and what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from modalign.core.errors import InputError
from modalign.data.text.descriptions import read_structures
from modalign.encoders import load_encoder
from modalign.encoders.towers.vision_tower import TextTower
from modalign.tune.topology import ATTRIBUTES, ENTITIES, read_topology

REAL = Path(__file__).parents[2] / "../shared/data/text/hpt/structure"
CAT = {
    "Entities": ["Cat", "fur", "long tail"],
    "Attributes": ["soft", "Fur"],
    "Entity-to-Entity Relationships": [
        {"entity1": "cat", "relationship": "has", "entity2": "long tail"},
        {"entity1": "cat", "relationship": "has", "entity2": "long tail"},
        {"entity1": "cat", "relationship": "has", "entity2": "whiskers"},
    ],
    "Entity-to-Attribute Relationships": [{"entity": "FUR", "relationship": "is", "attribute": "soft"}],
}
BARE = {"Entities": [], "Attributes": [], "Entity-to-Entity Relationships": [], "Entity-to-Attribute Relationships": []}


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return TextTower(load_encoder("tiny", device="cpu", dtype="float32", cache=False))


def written(folder: Path, graphs: dict) -> str:
    file = folder / "structures.json"
    file.write_text(json.dumps(graphs), encoding="utf-8")
    return str(file)


def tokens(tower: TextTower, text: str) -> list[int]:
    found = tower.tokenize([text])
    return found.ids[0, 1 : found.ends[0]].tolist()


def test_a_graph_becomes_a_sentence_and_its_relations(tower: TextTower, tmp_path: Path) -> None:
    found = read_topology(written(tmp_path, {"cat": [CAT], "dog": [BARE]}), tower, ["cat", "dog"], 3)
    assert found.sentences.texts == ("cat, fur, long tail, soft.", "dog.")
    assert torch.equal(found.sentences.ids, tower.tokenize(found.sentences.texts, slots=3).ids)
    assert found.summary == {"relations": 3, "relations_left_out": 1, "nodes_left_out": 0}
    parts = ["cat", ",", "fur", ",", "long tail", ",", "soft"]
    start, place = 4, {}
    for part in parts:
        length = len(tokens(tower, part))
        place[part] = list(range(start, start + length))
        start += length
    expected = torch.zeros_like(found.relations)
    for kind, one, other in [(ENTITIES, "cat", "long tail")] * 2 + [(ATTRIBUTES, "fur", "soft")]:
        for s in place[one]:
            for t in place[other]:
                expected[kind, 0, s, t] += 1
                expected[kind, 0, t, s] += 1
    assert torch.equal(found.relations, expected)
    assert found.relations.max() == 2


def test_picked_are_the_graphs_of_each_class(tower: TextTower, tmp_path: Path) -> None:
    other = CAT | {"Entities": ["cat", "long tail"], "Attributes": []}
    graphs = read_topology(written(tmp_path, {"cat": [CAT, other], "dog": [BARE]}), tower, ["dog", "cat"], 2)
    assert graphs.graphs == 2
    sentences, relations = graphs.pick(torch.tensor([1, 1]))
    assert sentences.texts == ("dog.", "cat, long tail.")
    alone = read_topology(written(tmp_path, {"cat": [other], "dog": [BARE]}), tower, ["dog", "cat"], 2)
    assert torch.equal(sentences.ids, alone.sentences.ids)
    assert torch.equal(relations, alone.relations)
    assert torch.equal(graphs.pick(1)[1], relations)
    assert graphs.pick(0)[0].texts == ("dog.", "cat, fur, long tail, soft.")
    assert alone.fingerprint != graphs.fingerprint


def test_nodes_beyond_the_context_are_left_out(tower: TextTower, tmp_path: Path) -> None:
    many = BARE | {
        "Entities": ["eye"] + [f"node {i}" for i in range(60)],
        "Entity-to-Entity Relationships": [
            {"entity1": "eye", "relationship": "sees", "entity2": "node 0"},
            {"entity1": "eye", "relationship": "sees", "entity2": "node 59"},
        ],
    }
    found = read_topology(written(tmp_path, {"cat": [many], "dog": [BARE]}), tower, ["cat", "dog"], 7)
    kept = found.sentences.texts[0].count(",")
    assert found.sentences.ids.shape[1] <= tower.context_length
    assert found.summary == {"relations": 1, "relations_left_out": 1, "nodes_left_out": 61 - kept}
    longer = tokens(tower, found.sentences.texts[0].removesuffix(".") + f", node {kept - 1}.")
    assert len(longer) + 2 + 7 > tower.context_length
    assert torch.equal(found.sentences.ids, tower.tokenize(found.sentences.texts, slots=7).ids)


def test_without_a_file_there_are_names_alone(tower: TextTower) -> None:
    found = read_topology(None, tower, ["polar_bear", "cat"], 2)
    assert found.sentences.texts == ("polar bear.", "cat.")
    assert found.graphs == 1
    assert found.pick(0)[1] is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"cat": [CAT]}, "got none of 'dog'"),
        ({"cat": [CAT], "dog": []}, "list of graphs for 'dog'"),
        ({"cat": [CAT], "dog": [{"Entities": []}]}, "graph 1 of 'dog'"),
    ],
)
def test_what_a_file_lacks_is_named(content: dict, sentence: str, tower: TextTower, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        read_topology(written(tmp_path, content), tower, ["cat", "dog"], 2)
    with pytest.raises(InputError, match="does not exist"):
        read_topology(str(tmp_path / "none.json"), tower, ["cat"], 2)


@pytest.mark.skipif(not REAL.is_dir(), reason="the published structure files are not beside the repository")
@pytest.mark.parametrize("name", ["Caltech101", "EuroSAT", "OxfordPets"])
def test_published_files(name: str, tower: TextTower) -> None:
    file = REAL / f"{name}.json"
    classes = sorted(json.loads(file.read_text(encoding="utf-8")))[:10]
    found = read_topology(str(file), tower, classes, 7)
    assert found.graphs == 5
    assert torch.equal(found.sentences.ids, tower.tokenize(found.sentences.texts, slots=7).ids)
    assert torch.equal(found.relations, found.relations.mT)
    total = sum(len(g.relations) + len(g.attribute_relations) for own in read_structures(file, classes) for g in own)
    assert found.summary["relations"] + found.summary["relations_left_out"] == total
    assert found.summary["relations"] > total / 2
