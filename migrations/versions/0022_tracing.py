"""The trace that a queued message belongs to."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    # traceparent of W3C Trace Context
    op.execute("ALTER TABLE queue_message ADD COLUMN traceparent text")
