"""Measuring: sides that solve the same problem, a gate for their answers, clock, memory, rows."""
