"""What the workers of the outgoing queue note of attempts and reports, and routes."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE queue_message
        ADD COLUMN require_tls boolean NOT NULL DEFAULT false   -- RFC 8689
    """,
    """
    ALTER TABLE queue_recipient
        ADD COLUMN status       text,            -- enhanced status code of last_reply, RFC 3463
        ADD COLUMN remote       text,            -- the host that gave last_reply
        ADD COLUMN last_attempt timestamptz,
        ADD COLUMN finished_at  timestamptz,
        ADD COLUMN delay_at     timestamptz,     -- when to report a delay; null: not (any more)
        ADD COLUMN report       smallint,        -- a report that is due, model.ReportKind
        ADD COLUMN crashes      smallint NOT NULL DEFAULT 0,  -- attempts without an outcome
        DROP COLUMN lease_until                  -- the lease of a worker is a row of `lease`
    """,
    "CREATE INDEX queue_recipient_domain ON queue_recipient (domain, next_attempt) WHERE state = 0",
    "CREATE INDEX queue_recipient_leased ON queue_recipient (lease_owner) WHERE state = 5",
    """
    CREATE INDEX queue_recipient_delay ON queue_recipient (delay_at)
        WHERE state = 0 AND delay_at IS NOT NULL
    """,
    "CREATE INDEX queue_recipient_report ON queue_recipient (message_id) WHERE report IS NOT NULL",
    """
    CREATE INDEX queue_recipient_finished ON queue_recipient (finished_at)
        WHERE finished_at IS NOT NULL
    """,
    """
    CREATE TABLE queue_route (                   -- how mail for a domain leaves
        domain         text PRIMARY KEY,         -- normal form; '*': every other one
        host           text,                     -- the smarthost; null: as DNS says
        port           int,
        tls            text NOT NULL,            -- none, may, encrypt, verify
        login          text,
        password       bytea,                    -- sealed
        retry_first    int,                      -- seconds; null: as configured
        retry_longest  int,
        expire_after   int,
        concurrency    int                       -- connections of one process
    )
    """,
)


def upgrade() -> None:
    """Add the columns; what waits already is reported as delayed like new mail."""
    for statement in STATEMENTS:
        op.execute(statement)
    op.execute(
        """
        UPDATE queue_recipient
        SET delay_at = next_attempt + interval '4 hours'
        WHERE state = 0
        """
    )
