"""A small problem for the training loop that uses everything a resumption must bring back.

The loss draws from torch (dropout) and keeps a moving average in a buffer; the data add noise of their own to each
image in each epoch; 23 images in batches of 6 leave a ragged end.
"""

from __future__ import annotations

import torch
from torch import nn

from modalign.core.randomness import generator
from modalign.tune.recipe import Recipe


class Vectors:
    """n vectors with labels; ``noise`` is this data set's augmentation."""

    def __init__(self, n=23, d=5, classes=3, noise=0.1):
        draws = torch.Generator().manual_seed(7)
        self.x, self.y = torch.randn(n, d, generator=draws), torch.randint(classes, (n,), generator=draws)
        self.noise, self.fingerprint = noise, f"{n} {d} {classes} {noise}"

    def __len__(self):
        return len(self.x)

    def batch(self, indices, epoch):
        draws = [torch.randn(self.x.shape[1], generator=generator(epoch, i)) for i in indices.tolist()]
        return self.x[indices] + self.noise * torch.stack(draws), self.y[indices]


class Net(nn.Module):
    def __init__(self, d=5, classes=3, dropout=0.3):
        super().__init__()
        draws = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(classes, d, generator=draws))
        self.bias = nn.Parameter(torch.zeros(classes))
        self.frozen = nn.Parameter(torch.ones(classes), requires_grad=False)
        self.register_buffer("average", torch.zeros(classes))
        self.dropout = dropout

    def loss(self, batch):
        x, y = batch
        scores = nn.functional.dropout(x, self.dropout) @ self.weight.T + self.bias * self.frozen
        with torch.no_grad():
            self.average.lerp_(scores.softmax(1).mean(0), 0.1)
        cross = nn.functional.cross_entropy(scores, y)
        return {"loss": cross + (scores * self.average).mean(), "cross": cross}


class Mean(Net):
    """The same without what depends on how a batch is divided: a mean over the images and nothing else."""

    def __init__(self):
        super().__init__(dropout=0.0)

    def loss(self, batch):
        x, y = batch
        return nn.functional.cross_entropy(x @ self.weight.T + self.bias, y)


def recipe(**other):
    return Recipe(**{"epochs": 4, "batch_size": 6, "learning_rate": 0.1, "seed": 1, **other})
