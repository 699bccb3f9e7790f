"""Order of the rows of printed tables, compared with that of runs on other data."""
