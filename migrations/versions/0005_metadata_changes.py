"""Which annotations a change was about (RFC 5465 §5.6)."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column; it does not rewrite the table."""
    op.execute("ALTER TABLE change ADD COLUMN names text[] NOT NULL DEFAULT '{}'")
