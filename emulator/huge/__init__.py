"""Huge pages: faults, split, collapse, retract, hugetlb. May import policy/ and what lies below it."""
