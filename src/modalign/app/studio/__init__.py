"""The studio: a local page to label images, refit a classifier, and measure its accuracy on a random exam set."""
