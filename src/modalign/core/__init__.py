"""Shared basics: errors, feature containers, file access, names. Imports no other part of modalign."""
