"""Worker processes: the sockets they inherit, what is said to them, who keeps them running."""
