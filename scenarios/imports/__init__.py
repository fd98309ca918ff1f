"""What people have at hand of a real program, made a memory trace: strace, perf, /proc, syzkaller."""
