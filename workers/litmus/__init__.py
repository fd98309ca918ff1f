"""Litmus tests: small concurrent programs with a verdict by others, run on the explorer and judged by it."""
