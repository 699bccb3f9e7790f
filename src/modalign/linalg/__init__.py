"""The shared mathematics: torch tensors in, frozen results out that say how far to trust them."""
