"""The candidates, how they are judged, and their ensemble."""
