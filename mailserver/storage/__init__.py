"""PostgreSQL and S3: one function, one statement."""
