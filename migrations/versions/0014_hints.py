"""Changes told across processes where LISTEN cannot be used."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE hint (
        id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        told_at timestamptz NOT NULL DEFAULT now(),
        origin  text NOT NULL,                       -- the process that tells
        channel text NOT NULL,
        text    text NOT NULL
    )
    """,
    "CREATE INDEX hint_told ON hint (told_at)",  # old ones are deleted
)


def upgrade() -> None:
    """Add the table."""
    for statement in STATEMENTS:
        op.execute(statement)
