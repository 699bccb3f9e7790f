"""GPUA: vision-only features carried into the language space by an orthogonal map."""
