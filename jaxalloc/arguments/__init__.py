"""What callers hand in, checked; and how they are told what is wrong with it."""
