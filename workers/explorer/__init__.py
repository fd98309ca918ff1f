"""The explorer: searches every interleaving of a small program, replays and shrinks what it finds."""
