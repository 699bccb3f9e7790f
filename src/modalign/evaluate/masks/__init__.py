"""Label maps against true ones: IoU of the classes, with intervals over images."""
