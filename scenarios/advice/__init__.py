"""Advice for a live process: page tables held, needed, and what each design would give back."""
