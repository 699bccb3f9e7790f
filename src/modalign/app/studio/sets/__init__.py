"""The studio of images that may show several classes: labels and answers are sets."""
