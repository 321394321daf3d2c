"""Tables of payments. `tidings.outbox.table_schema` adds those of the outbox and the inbox to the same metadata."""

import sqlalchemy as sa

metadata = sa.MetaData()

_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite assigns row ids only to columns of type INTEGER

payments = sa.Table(
    "payments",
    metadata,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("payment_id", sa.Text, nullable=False, unique=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("customer_id", sa.Text, nullable=False),
    sa.Column("amount_cents", sa.BigInteger, nullable=True),
    sa.Column("refusal", sa.Text, nullable=True),
    sa.Column("completed", sa.Boolean, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False, comment="seconds since 1970"),
)

postings = sa.Table(
    "postings",
    metadata,
    sa.Column("id", _number, primary_key=True),
    sa.Column("payment_id", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False, index=True),
    sa.Column("movement", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("amount_cents", sa.BigInteger, nullable=False, comment="debits are positive, credits negative"),
    sa.Column("booked_at", sa.Float, nullable=False, comment="seconds since 1970"),
    sa.UniqueConstraint("payment_id", "movement", "account"),  # guards against double bookings, whatever the code does
)
