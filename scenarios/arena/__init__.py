"""The arena: every policy on every workload, in tables that say what each gives back, what it costs and how late."""
