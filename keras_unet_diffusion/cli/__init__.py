"""Commands: flags in, library calls out, no maths."""
