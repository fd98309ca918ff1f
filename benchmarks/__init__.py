"""Scripted measurements."""
