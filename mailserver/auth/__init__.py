"""Who is this: passwords, verified credentials, SASL machines, and the brake on guessing."""
