"""The operator: observes resources, decides what shall be, and acts. See docs/decisions/0001."""
