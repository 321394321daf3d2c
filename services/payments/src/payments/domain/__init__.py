"""What payments decides: pure, without I/O and without a clock; `now` is always given."""

from payments.domain.cards import Refusal, Verdict, decide
from payments.domain.ledger import ACCOUNTS, Account, Movement, Totals, postings
from payments.domain.payment import DifferentTerms, Payment, Status

__all__ = [
    "ACCOUNTS",
    "Account",
    "DifferentTerms",
    "Movement",
    "Payment",
    "Refusal",
    "Status",
    "Totals",
    "Verdict",
    "decide",
    "postings",
]
