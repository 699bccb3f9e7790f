"""GPUA: an orthogonal map from vision-only features to the language space."""
