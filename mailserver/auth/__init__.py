"""Who is this: passwords, tokens, verified credentials, SASL machines, the brake on guessing."""
