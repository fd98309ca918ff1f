"""Memory traces: replay, record, agreement with a kernel."""
