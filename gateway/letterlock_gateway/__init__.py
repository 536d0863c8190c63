"""A gateway member: takes mail in over STARTTLS, keeps it safe, and delivers it as policy says."""
