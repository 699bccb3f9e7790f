"""Training inside the towers: learnable prompts, image batches, and the training loop."""
