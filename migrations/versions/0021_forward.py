"""Aliases that lead to addresses on other servers."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE forward (
        address text NOT NULL,                       -- normal form; '@domain' catches all
        target  text NOT NULL,                       -- where mail for it is sent on to
        PRIMARY KEY (address, target)
    )
    """,
)


def upgrade() -> None:
    """Add the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Remove it."""
    op.execute("DROP TABLE forward")
