"""ALIGN: prompts in both towers, aligned by two levels of optimal transport."""
