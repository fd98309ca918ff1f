"""The kernel of this host: the fault loop on it, memory traces on it."""
