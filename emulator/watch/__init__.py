"""The debug build: points, paths, detectors, lock order. May import the root of emulator/ only."""
