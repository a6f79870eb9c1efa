"""Keys that sign outgoing mail."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE dkim_key (                          -- RFC 6376
        domain      text NOT NULL REFERENCES domain ON DELETE CASCADE,
        selector    text NOT NULL,
        algorithm   text NOT NULL,                   -- rsa-sha256, ed25519-sha256
        private     bytea NOT NULL,                  -- sealed
        public      text NOT NULL,                   -- base64, as in DNS
        created_at  timestamptz NOT NULL,
        signs_from  timestamptz NOT NULL,
        signs_until timestamptz,                     -- null: until another key takes over
        PRIMARY KEY (domain, selector)
    )
    """,
)


def upgrade() -> None:
    """Add the table; domains that are there already get keys by `mailserver dkim rotate`."""
    for statement in STATEMENTS:
        op.execute(statement)
