"""Files of weights and the cards that describe them, read and checked.

Networks themselves live in models/nets.
"""
