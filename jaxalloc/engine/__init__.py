"""Many universes at once: sizes, programs, and the scheduler that fills them."""
