"""Walks over page tables by address: GUP, mincore, pagemap, moving. May import fault/ and what lies below it."""
