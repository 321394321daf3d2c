"""Rules of delivery, without I/O and without a clock: `now` is a parameter."""

from delivery.domain.delivery import Address, Delivery, Failure, Recipient, Status, WrongStep
from delivery.domain.roster import Assignment, Driver, NotOnDuty, Roster

__all__ = [
    "Address",
    "Assignment",
    "Delivery",
    "Driver",
    "Failure",
    "NotOnDuty",
    "Recipient",
    "Roster",
    "Status",
    "WrongStep",
]
