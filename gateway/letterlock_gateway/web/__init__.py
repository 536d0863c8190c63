"""The management pages over HTTPS (H1, H2): read-only views of what a member runs, in a process of their own.

The supervisor starts it (`process`) where the snapshot asks for it, and starts it again when it dies; it is less urgent
than mail, bounded in memory, and holds no key but that of its own certificate (`handed`). What it shows it reads where
the commands do: the snapshot, the member's state by its own door, the spools.
"""
