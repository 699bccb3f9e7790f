"""Semantic segmentation of photos from class names.

Named ``segmentation`` and not ``segment``, since importing a package of that name would hide :func:`modalign.segment`.
"""
