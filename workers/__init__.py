"""OS processes: CPUs, coordinator, and the machine that starts, watches and stops them. No protocol."""
