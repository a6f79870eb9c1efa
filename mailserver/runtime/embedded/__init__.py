"""PostgreSQL and SeaweedFS as children of this program, for development and small hosts."""
