"""Things as given: images, class names, sentences and splits, before any encoder has seen them."""
