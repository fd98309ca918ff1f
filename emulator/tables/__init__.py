"""How a table dies: unhook, mmu_gather, RCU, recovery after a crash. May import pages/ and what lies below it."""
