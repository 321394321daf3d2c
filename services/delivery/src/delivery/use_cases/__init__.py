"""Use cases of delivery: steps of a delivery, changes of the roster, and the arrival of a driver."""
