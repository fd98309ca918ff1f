"""Walks that begin at a page: reclaim, migration, write-back. May import huge/ and what lies below it."""
