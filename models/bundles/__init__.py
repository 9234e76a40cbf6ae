"""Files of weights and the cards that describe them, read and checked."""
