"""Telling what happened: violations, stories, deadlocks, leaks. Runs nothing."""
