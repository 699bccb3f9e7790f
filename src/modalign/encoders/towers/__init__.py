"""The towers of CLIP with differentiable access to all layers, for tuning."""
