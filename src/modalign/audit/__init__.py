"""Trouble in a set of images that can be found before anything is learned from it."""
