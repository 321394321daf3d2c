"""Domain rules of payments. Pure: no I/O and no clock; `now` is a parameter."""

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
