"""The sweeps of :func:`~modalign.linalg.sinkhorn.sinkhorn`: kernels, scalings, step lengths."""
