"""Prompts for class names."""
