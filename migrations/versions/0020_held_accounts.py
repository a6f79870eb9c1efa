"""Accounts that send like one whose password was stolen are found and held at once."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE INDEX queue_message_account ON queue_message (account_id)",
    "CREATE INDEX queue_recipient_failed ON queue_recipient (finished_at) WHERE state = 2",
)


def upgrade() -> None:
    """Add the indexes."""
    for statement in STATEMENTS:
        op.execute(statement)
