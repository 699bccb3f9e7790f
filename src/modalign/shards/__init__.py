"""Work on more images than one process should hold: input shards in, output parts out, each exactly once.

A worker turns one input shard into one part and publishes it by rename. The name of a part is a hash of what it is
computed from, so a part that exists is a shard that is done, whoever computed it. Everything else only schedules.
"""

from modalign.shards.sharded import embed_shards, predict_shards

__all__ = ["embed_shards", "predict_shards"]
