"""Images and labels in the formats of other programs, read and written without importing these programs.

One module per format. Each reads into a :class:`~modalign.data.inventory.Listing`, so that class order, splits,
decoding and caching are those of every other source.
"""
