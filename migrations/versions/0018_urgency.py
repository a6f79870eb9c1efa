"""Mail that has to be delivered by a time, and mail that goes before other mail."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE queue_message
        ADD COLUMN deliver_by timestamptz,             -- RFC 2852; null: whenever
        ADD COLUMN by_mode    text,                    -- R, N, and T for a trace
        ADD COLUMN priority   smallint NOT NULL DEFAULT 0  -- RFC 6710
    """,
    """
    ALTER TABLE queue_recipient
        ADD COLUMN rank smallint NOT NULL DEFAULT 1    -- 0: before all other mail, 2: after it
    """,
    """
    CREATE INDEX queue_recipient_rank ON queue_recipient (rank, next_attempt) WHERE state = 0
    """,
    """
    CREATE INDEX queue_recipient_domain_rank ON queue_recipient (domain, rank, next_attempt)
        WHERE state = 0
    """,
    "DROP INDEX queue_recipient_domain",
    "DROP INDEX queue_recipient_due",
)


def upgrade() -> None:
    """Add the columns; the new indexes serve whatever the old ones did."""
    for statement in STATEMENTS:
        op.execute(statement)
