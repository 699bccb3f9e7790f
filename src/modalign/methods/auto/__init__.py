"""Automatic choice: candidates, their evaluation, and their ensemble."""
