"""One file a family: the table of its variants, its blocks, its builder."""
