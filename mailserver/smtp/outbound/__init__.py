"""Delivery to other servers: the route, the connection, and the workers of the queue."""
