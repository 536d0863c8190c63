"""TLS: contexts built and tried, chains verified, names matched. Imports no other room."""
