"""Which programs work with the schema.

Migrations only add; programs of before go on working beside newer ones. The one that takes away
what nobody needs any more raises `oldest` to the version whose program was the first to do without.
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; every program so far works with the schema."""
    op.execute("CREATE TABLE schema_support (oldest text NOT NULL)")
    op.execute("INSERT INTO schema_support VALUES ('0001')")
