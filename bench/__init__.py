"""Measurements that anyone can repeat: ``python -m bench.speed``, ``python -m bench.real``; ``--json`` for machines."""
