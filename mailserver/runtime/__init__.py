"""What runs the server: embedded services, worker processes, signals."""
