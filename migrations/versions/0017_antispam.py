"""What all nodes remember of clients and senders: lists, greylisting, counts, held accounts."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE spam_list (
        scope      text COLLATE "C" NOT NULL,        -- '' the server, '@example.org', an account
        subject    text NOT NULL,                    -- address, '@domain', network, 'to:address'
        action     text NOT NULL,                    -- allow, deny
        created_at timestamptz NOT NULL,
        PRIMARY KEY (scope, subject)
    )
    """,
    """
    CREATE TABLE greylist (
        key        bytea PRIMARY KEY,                -- hash: who is asked about stays unknown
        first_at   timestamptz NOT NULL,
        passed     boolean NOT NULL,                 -- came again, or sent good mail
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX greylist_expires ON greylist (expires_at)",
    # A crash of PostgreSQL may forget counts; in return they cost no write-ahead log.
    """
    CREATE UNLOGGED TABLE rate (
        key        bytea NOT NULL,                   -- hash of the limit and who it is about
        period     bigint NOT NULL,                  -- number of the stretch of time
        amount     bigint NOT NULL,
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (key, period)
    )
    """,
    "CREATE INDEX rate_expires ON rate (expires_at)",
    """
    CREATE TABLE sending_hold (
        account_id bigint PRIMARY KEY REFERENCES account ON DELETE CASCADE,
        reason     text NOT NULL,
        held_at    timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE sending_contact (                   -- to whom an account has sent before
        account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        contact    bigint NOT NULL,                  -- hash of the address
        PRIMARY KEY (account_id, contact)
    )
    """,
)


def upgrade() -> None:
    """Add the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
