"""Access control lists of mailboxes, and subscriptions to mailboxes of others."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE acl (                              -- entries of access control lists, RFC 4314
        account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        mailbox_id bigint NOT NULL,
        grantee_id bigint REFERENCES account ON DELETE CASCADE,  -- null: anyone
        negative   boolean NOT NULL,                -- takes away what other entries give
        rights     text NOT NULL,                   -- letters
        UNIQUE NULLS NOT DISTINCT (account_id, mailbox_id, grantee_id, negative),
        FOREIGN KEY (account_id, mailbox_id) REFERENCES mailbox (account_id, id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX acl_grantee ON acl (grantee_id)",
    # what the entries leave to the owner, so that own mailboxes need no second query; null: all
    "ALTER TABLE mailbox ADD COLUMN owner_rights text",
    """
    CREATE TABLE subscription (                     -- of mailboxes of others
        subscriber_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        account_id    bigint NOT NULL,
        mailbox_id    bigint NOT NULL,
        PRIMARY KEY (subscriber_id, account_id, mailbox_id),
        FOREIGN KEY (account_id, mailbox_id) REFERENCES mailbox (account_id, id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX subscription_mailbox ON subscription (account_id, mailbox_id)",
    # a private annotation belongs to who made it, on whosever mailbox it is (RFC 5464 §3.3)
    "ALTER TABLE metadata ADD COLUMN reader_id bigint REFERENCES account ON DELETE CASCADE",
    "CREATE INDEX metadata_reader ON metadata (reader_id) WHERE reader_id IS NOT NULL",
    """
    CREATE UNIQUE INDEX metadata_entry ON metadata (account_id, mailbox_id, reader_id, name)
        NULLS NOT DISTINCT
    """,
    "ALTER TABLE metadata DROP CONSTRAINT metadata_account_id_mailbox_id_name_key",
)


def upgrade() -> None:
    """Add what shared mailboxes need; a mailbox nobody shared is as it was."""
    for statement in STATEMENTS:
        op.execute(statement)
