"""The machine and the emulated kernel. Imports nothing of workers/ or scenarios/; README.md lists the storeys."""
