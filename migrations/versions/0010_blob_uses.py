"""Which emails have a blob as their content."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add an index; a hash of it is all there is of a blob that is 32 octets of noise anyway."""
    op.execute("CREATE INDEX email_blob ON email USING hash (blob_id)")
