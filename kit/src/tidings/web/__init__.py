"""The edges of every HTTP service: who may ask, how much may be sent, and how long it may take."""
