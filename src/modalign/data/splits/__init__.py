"""Division of images into train, validation and test lists: marked by a source, read from a file, or drawn."""
