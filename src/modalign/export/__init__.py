"""A classifier as a folder that needs neither torch nor this library: one ONNX graph and small programs around it."""
