"""Photos → a class for each pixel, from class names alone.

Named ``segmentation`` and not ``segment``, since importing a package of that name would hide :func:`modalign.segment`.
"""
