"""ALIGN: prompts on both sides, aligned by two levels of optimal transport."""
