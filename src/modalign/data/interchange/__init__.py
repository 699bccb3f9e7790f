"""Images and labels as other programs hold them: recognized without importing these programs, and written for them.

A module a format. Each reads into a :class:`~modalign.data.inventory.Listing`, so that class order, splits, decoding
and caching are those of every other source.
"""
