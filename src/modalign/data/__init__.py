"""Input data: images, class names, prompts and splits."""
