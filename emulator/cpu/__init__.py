"""One CPU: TLB, interrupts, idle, flushes, signals. May import watch/ and what lies below it."""
