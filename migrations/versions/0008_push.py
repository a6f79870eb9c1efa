"""Push subscriptions, keys of the server, tickets for WebSockets, who uploaded to others."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE push_subscription (                -- RFC 8620 §7.2
        account_id        bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        id                bigint NOT NULL,
        device_client_id  text NOT NULL,
        url               text NOT NULL,
        p256dh            bytea,                    -- keys of the device; null: no encryption
        auth              bytea,
        verification_code text NOT NULL,
        verified          boolean NOT NULL DEFAULT false,
        expires_at        timestamptz NOT NULL,
        types             text[],                   -- null: all
        told              text NOT NULL DEFAULT '', -- states that the device was told last
        failures          int NOT NULL DEFAULT 0,   -- in a row
        attempt_at        timestamptz,              -- when to send what waits; null: at a change
        PRIMARY KEY (account_id, id)
    )
    """,
    "CREATE INDEX push_subscription_expiry ON push_subscription (expires_at)",
    """
    CREATE TABLE server_key (                       -- private keys that all processes share
        name       text PRIMARY KEY,
        secret     bytea NOT NULL,
        created_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE ticket (                           -- opens one WebSocket instead of a password
        digest     bytea PRIMARY KEY,               -- SHA-256 of the ticket
        account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX ticket_account ON ticket (account_id)",
    "CREATE INDEX ticket_expiry ON ticket (expires_at)",
    """
    CREATE TABLE upload_by (                        -- uploads to an account that is another's
        account_id  bigint NOT NULL,
        blob_id     bytea NOT NULL,
        uploader_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        PRIMARY KEY (account_id, blob_id, uploader_id),
        FOREIGN KEY (account_id, blob_id) REFERENCES upload (account_id, blob_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX upload_by_uploader ON upload_by (uploader_id)",
)


def upgrade() -> None:
    """Add tables; nothing that is there changes."""
    for statement in STATEMENTS:
        op.execute(statement)
