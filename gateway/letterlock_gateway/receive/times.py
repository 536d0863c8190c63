"""How long a client may take, in seconds (RFC 5321 section 4.5.3.2). Used by the shell around sessions."""

# Commands: "at least 5 minutes while it is awaiting the next command" (section 4.5.3.2.7).
IDLE = 300.0
# Each block of text (section 4.5.3.2.5).
BLOCK = 180.0
HANDSHAKE = 60.0
# The polite end of a TLS connection.
SHUTDOWN = 30.0
# For those from whom nothing is taken, for PROXY headers, for names, and for closing.
SHORT = 30.0
NEVER = float("inf")
