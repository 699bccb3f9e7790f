"""The towers of a CLIP opened up, so that gradients reach what is learned inside."""
