"""Commands that search: explore, findings, claims."""
