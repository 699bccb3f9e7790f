"""DAM: dual alignment by ridge regression in closed form."""
