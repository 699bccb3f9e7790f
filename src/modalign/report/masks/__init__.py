"""Pages and figures of label maps: photos under their classes, and masks next to the true ones."""
