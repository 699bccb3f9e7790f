"""Text tower with the prompts of HPT; equations in :mod:`modalign.methods.dam.hpt`.

DAM's paper specifies the numbers and the sources of the prompts. Choices of this implementation: instance prompts are
computed from every layer, graphs are written as sentences of a name and its entities and attributes, and relations
count in both directions.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from modalign.encoders.towers.vision_tower import TextTower
from modalign.linalg.similarity import unit
from modalign.tune.prompts import Prompts
from modalign.tune.topology import Topology

AT_ONCE = 64  # classes encoded at a time where nothing is learned


class HierarchicalText(nn.Module):
    """Features of K classes from the text tower with hierarchical prompts.

    Parameters
    ----------
    tower : TextTower
        Frozen.
    topology : Topology
        Sentences with one slot per prompt, and graphs for the attention biases.
    descriptions : tuple of tuple of str
        Sentences of each class for the instance prompts; repeated for classes with fewer than N_i.
    global_prompts : int, default=2
        N_g.
    instance_prompts : int, default=5
        N_i.
    gradient_checkpointing : bool, default=False
        Recompute layers in the backward pass.
    generator : Generator or None, default=None
        Generator of the initial parameters: prompts from N(0, 0.02²), the map from U(±1/√w).
    """

    instances: Tensor

    def __init__(
        self,
        tower: TextTower,
        topology: Topology,
        descriptions: tuple[tuple[str, ...], ...],
        *,
        global_prompts: int = 2,
        instance_prompts: int = 5,
        gradient_checkpointing: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        assert topology.sentences.slots == global_prompts + instance_prompts
        self._tower, self._topology, self._checkpoint = tower, topology, gradient_checkpointing
        width = tower.width
        self.first = Prompts(global_prompts + instance_prompts, width, generator=generator)
        self.later = Prompts(global_prompts, width, depth=tower.depth - 1, generator=generator)
        self.instance_map = nn.utils.skip_init(nn.Linear, width, width)
        with torch.no_grad():
            for parameter in self.instance_map.parameters():
                parameter.uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width), generator=generator)
        self.relation_scales = nn.Parameter(torch.zeros(2, tower.depth))
        if topology.relations is None:
            self.relation_scales.requires_grad_(False)
        chosen = [own[j % len(own)] for own in descriptions for j in range(instance_prompts)]
        states = instance_states(tower, chosen).unflatten(1, (-1, instance_prompts))
        self.register_buffer("instances", states, persistent=False)

    @property
    def fingerprint(self) -> str:
        """Hash of the sentences and relations."""
        return self._topology.fingerprint

    @property
    def summary(self) -> dict[str, int]:
        """Numbers of relations that are represented by the tokens."""
        return self._topology.summary

    @property
    def graphs(self) -> int:
        """G, number of sentences per class."""
        return self._topology.graphs

    def forward(self, graphs: Tensor | int, *, chunk: int | None = None) -> Tensor:
        """(K, d) features of the classes, not normalized.

        Parameters
        ----------
        graphs : Tensor or int
            Index of the sentence of each class, (K,) int64 on the CPU, or one index for all.
        chunk : int or None, default=None
            Classes per chunk.

        Notes
        -----
        One pass of the text tower over K sentences; the attention biases hold 12 K L² numbers in CLIP.
        """
        sentences, relations = self._topology.pick(graphs)
        return torch.cat(
            [
                self._tower(
                    sentences.part(start, start + size),
                    self._prompts(start, start + size),
                    bias=None if relations is None else self._bias(relations[:, start : start + size]),
                    checkpoint=self._checkpoint,
                ).pooled[0]
                for size in (chunk or len(sentences),)
                for start in range(0, len(sentences), size)
            ]
        )

    @torch.no_grad()
    def mean(self) -> Tensor:
        """(K, d) mean over the sentences of each class of their unit features, of unit length again."""
        return unit(sum((unit(self(graph, chunk=AT_ONCE)) for graph in range(self.graphs)), torch.zeros(())))

    def _prompts(self, start: int, stop: int) -> list[Tensor]:
        """Yield the prompts at the slots of some classes, layer by layer."""
        states = self.instances[:, start:stop].to(self.instance_map.weight.dtype)  # (depth − 1, K, N_i, w)
        own = states + self.instance_map(states)
        shared = torch.stack(self.later.prompts())[:, None].expand(-1, states.shape[1], -1, -1)
        return [*self.first.prompts(), *torch.cat([shared, own], dim=2)[:, None].unbind(0)]

    def _bias(self, relations: Tensor) -> Tensor:
        """(depth, K, L, L) added to the attention scores, from counts (2, K, L, L)."""
        counts = relations.to(self.relation_scales.device, self.relation_scales.dtype)
        return torch.tensordot(self.relation_scales, counts, dims=([0], [0]))


def instance_states(tower: TextTower, sentences: list[str]) -> Tensor:
    """(depth − 1, n, w): end-of-text states of sentences on entering layers 1, 2, …; cut to the context."""
    parts = [sentences[start : start + AT_ONCE] for start in range(0, len(sentences), AT_ONCE)]
    return torch.cat([tower.end_states(tower.tokenize(part, cut=True))[1:] for part in parts], dim=1)
