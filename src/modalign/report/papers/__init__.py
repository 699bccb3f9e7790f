"""The figures of the papers, each from plain arrays and with the numbers that it shows."""
