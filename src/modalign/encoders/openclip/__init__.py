"""Reader of open_clip checkpoints (ResNets and plain vision transformers) that does not use open_clip."""
