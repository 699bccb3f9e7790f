"""DAM: ridge alignment in closed form."""
