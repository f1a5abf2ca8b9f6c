"""A frame in, a reward out: teacher, student and everything that fits one to the other."""
