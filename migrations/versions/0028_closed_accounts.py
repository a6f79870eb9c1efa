"""Accounts that are disabled may refuse mail, and deleted ones can come back for a while."""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

STATEMENTS = (
    # of a disabled account: its mail is refused instead of kept for it
    "ALTER TABLE account ADD COLUMN refuses boolean NOT NULL DEFAULT false",
    # of a deleted one, which is disabled too: from when on all that it has is removed
    "ALTER TABLE account ADD COLUMN remove_at timestamptz",
    "CREATE INDEX account_remove ON account (remove_at) WHERE remove_at IS NOT NULL",
)


def upgrade() -> None:
    """Add the columns; who is disabled already takes mail from now on."""
    for statement in STATEMENTS:
        op.execute(statement)
