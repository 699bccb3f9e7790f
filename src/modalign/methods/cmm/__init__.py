"""CMM (2024): a learned linear map with a triplet loss."""
