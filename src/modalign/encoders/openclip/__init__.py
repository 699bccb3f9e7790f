"""Checkpoints of open_clip, read without the package: ResNets and plain vision transformers."""
