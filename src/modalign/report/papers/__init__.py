"""Figures of the papers, each from plain arrays; the plotted numbers are returned with the figure."""
