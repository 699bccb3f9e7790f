"""Numerical methods on torch tensors. Results are frozen objects that include convergence and condition."""
