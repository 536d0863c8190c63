"""What happened, told to people and programs: the log, and what deliveries came to. No I/O but the log's."""
