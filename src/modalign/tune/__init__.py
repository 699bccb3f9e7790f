"""What methods that train inside the towers share: learnable prompts, image batches, and one training loop."""
