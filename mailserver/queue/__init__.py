"""The durable outgoing queue: one row per recipient, everything about time stored, not derived."""
