"""The command line, one file per scenario, and the reports."""
