"""An account that was held and let go begins to be counted anew."""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add when an account was let go; null: it is held."""
    op.execute("ALTER TABLE sending_hold ADD COLUMN released_at timestamptz")
