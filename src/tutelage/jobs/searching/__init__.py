"""The parts of a search for a student: what is asked next, what it may cost, how it is scored, and what is kept of it."""
