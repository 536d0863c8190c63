"""The contract: what users write (one module per kind), and what operator and gateway tell each other.

Promises: no I/O, and no import of any other package of Letterlock.
"""
