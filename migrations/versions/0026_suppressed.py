"""Addresses that get reports again are found without looking at all."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

STATEMENTS = ("CREATE INDEX feedback_suppressed_until ON feedback_suppressed (until)",)


def upgrade() -> None:
    """Add the index."""
    for statement in STATEMENTS:
        op.execute(statement)
