"""Sharded computation: each input shard becomes one output part, computed exactly once.

A worker turns one input shard into one part and publishes it by rename. The name of a part is a hash of its inputs, so
an existing part means that its shard is done, by whatever process. All other code is scheduling.
"""

from modalign.shards.sharded import embed_shards, predict_shards

__all__ = ["embed_shards", "predict_shards"]
