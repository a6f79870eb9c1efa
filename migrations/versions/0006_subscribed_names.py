"""Names that stay subscribed when their mailbox is gone."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE subscribed_name (                  -- of no mailbox now, RFC 3501 §6.3.6
        account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        path       text NOT NULL,
        PRIMARY KEY (account_id, path)
    )
    """,
)


def upgrade() -> None:
    """Add the table; mailboxes that are gone already are forgotten."""
    for statement in STATEMENTS:
        op.execute(statement)
