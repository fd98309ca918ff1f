"""What a CPU does: fetch, execute, translate. May import every other storey of emulator/."""
