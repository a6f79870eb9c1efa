"""Reports of DMARC and TLS: those received, and what those that are sent are made of."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE feedback_report (                   -- received from others
        id           bigint PRIMARY KEY,
        kind         smallint NOT NULL,              -- 1: DMARC, 2: TLS
        organization text NOT NULL,
        report_id    text NOT NULL,
        domain       text NOT NULL,
        begins_at    timestamptz NOT NULL,
        ends_at      timestamptz NOT NULL,
        received_at  timestamptz NOT NULL,
        passed       bigint NOT NULL,
        failed       bigint NOT NULL,
        content      bytea NOT NULL,                 -- zstd of the whole report as JSON
        UNIQUE (kind, organization, report_id, domain)
    )
    """,
    "CREATE INDEX feedback_report_received ON feedback_report (kind, received_at)",
    """
    CREATE TABLE feedback_place (                    -- how far mail was looked through
        account_id bigint PRIMARY KEY REFERENCES account ON DELETE CASCADE,
        modseq     bigint NOT NULL
    )
    """,
    """
    CREATE TABLE feedback_count (                    -- seen here, for reports to others
        kind   smallint NOT NULL,
        day    date NOT NULL,                        -- UTC
        domain text NOT NULL,                        -- whose policy it is
        digest bytea NOT NULL,                       -- of detail
        detail text NOT NULL,                        -- JSON: what is alike in all that is counted
        count  bigint NOT NULL,
        PRIMARY KEY (kind, day, domain, digest)
    )
    """,
    """
    CREATE TABLE feedback_sent (                     -- one row for each domain and day
        kind     smallint NOT NULL,
        day      date NOT NULL,
        domain   text NOT NULL,
        outcome  text NOT NULL,                      -- "sent", or why it was not
        queue_id bigint,
        sent_at  timestamptz NOT NULL,
        PRIMARY KEY (kind, day, domain)
    )
    """,
    "CREATE INDEX feedback_sent_queue ON feedback_sent (queue_id) WHERE queue_id IS NOT NULL",
    """
    CREATE TABLE feedback_suppressed (               -- where reports came back from
        address text PRIMARY KEY,
        until   timestamptz NOT NULL
    )
    """,
)


def upgrade() -> None:
    """Add the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
