"""Whether mail from other servers is what it says it is, and whether anybody wants it."""
