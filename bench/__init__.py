"""Benchmarks: ``python -m bench.speed``, ``python -m bench.real``; ``--json`` for machine-readable output."""
