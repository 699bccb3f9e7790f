"""Pages and figures of label maps: photos under their classes, and masks beside their truth."""
